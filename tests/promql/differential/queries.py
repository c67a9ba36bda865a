"""The questions, made over functions × selectors × modifiers, in groups that fail apart."""

from collections.abc import Iterator
from dataclasses import dataclass

POWER, ENERGY, LOAD = "power_watts", "energy_watthours_total", "load_ratio"
# Only plain numbers: where NaN and infinities come in, 2.42 and 3 differ here and there.
PLAIN = 'odd{kind=~"zero|constant"}'


@dataclass(frozen=True, slots=True)
class Question:
    """`theirs` where 2.42 spells it differently; `ordered` where the answer's order matters."""

    text: str
    theirs: str = ""
    ordered: bool = False


# Prometheus 3 counts back to a counter's zero only after it has halved a wide gap at the left
# edge; 2.42 did so before, and stretched some windows at the start of a series too far.
_ZERO = "3 extrapolates less at the start of a counter"
# Prometheus 3 takes any UTF-8 as the name of a label.
_NAMES = "3 takes it as a label's name"
# By design of Prometheus 3: not asked. Query -> reason.
DIFFERENT: dict[str, str] = {
    **{f"{f}({POWER}[{w}])": _ZERO for f in ("rate", "increase") for w in ("5m", "17m")},
    **{f"{f}({LOAD}[1m])": _ZERO for f in ("rate", "increase")},
    f"rate({POWER}[10m:1m])": _ZERO,
    f"rate(rate({ENERGY}[5m])[20m:2m])": _ZERO,
    f"rate({LOAD}[15m:30s] offset 5m)": _ZERO,
    f'label_replace({POWER}, "bad-name", "x", "device", ".*")': _NAMES,
    f'label_join({POWER}, "bad-name", "-", "device")': _NAMES,
    f"count_values('bad-name', {POWER})": _NAMES,
    f"{POWER} atan2 3": "2.42 forgets to drop the metric's name",
}


def _ask(*texts: str) -> Iterator[Question]:
    for text in texts:
        yield Question(text)


def selectors() -> Iterator[Question]:
    for selector in (
        *(POWER, ENERGY, LOAD, "odd", "ups_status", "nothing", "poll_seconds_bucket"),
        *(f"{{__name__='{POWER}'}}", '{__name__=~"power.*|price"}', '{device="main"}'),
        *(f'{POWER}{{device="main"}}', f'{POWER}{{device!="main"}}'),
        *(f'{POWER}{{device=~"m.*|solar"}}', f'{POWER}{{device!~"m.*"}}'),
        *(f'{POWER}{{device=~""}}', f'{POWER}{{absent=""}}', f'{POWER}{{absent=~".*"}}'),
        *(f'{POWER}{{absent!=""}}', f'{POWER}{{phase=~"l[12]", device="solar"}}'),
        *('device_info{model="SDM120 €"}', 'device_info{model=~"SDM\\\\d+.*"}'),
        *(f'{POWER}{{device=~"(?i)MAIN"}}', 'odd{kind=~"na|inf"}', "odd{kind=~`n.n`}"),
    ):
        yield Question(selector)
    # What a matcher takes is judged by what its string says.
    for selector in (
        *('{device!=""}', "{device!=''}", "{device!=``}", '{__name__!=""}', '{device!~""}'),
        *('{device!~".*"}', '{device!~".*", phase="l1"}', '{device!="", phase!="l1"}'),
        *('{device!="",}', '{device!="" , phase=""}', '{device!~"", kind=~".*"}'),
        *('{device=~".+", phase!~"l[12]"}', '{__name__=~"power.*", device!="main"}'),
        *('{device!~"|main"}', '{device!="\\x6dain", phase!=""}', '{nosuch!~""}'),
    ):
        yield from _ask(selector, f"count by (__name__) ({selector})", f"sum({selector} offset 1s)")
    yield from _ask(
        *('count_over_time({device!=""}[5m])', 'max_over_time({device!~""}[5m:1m])'),
        *(f'{POWER} and on (device) {{phase!=""}}', 'absent({nosuch!=""})', "x{}"),
    )
    for modifier in (
        *("offset 5m", "offset -5m", "offset 1h30m", "@ 1760003044", "@ start()", "@ end()"),
        *("@ 1760003044 offset 10m", "offset 10m @ 1760003044", "@ end() offset -1m"),
        *("offset 2d", "@ 1760003044.5", "offset 7s"),
    ):
        yield from _ask(*(f"{metric} {modifier}" for metric in (POWER, ENERGY, LOAD)))


def literals() -> Iterator[Question]:
    yield from _ask(
        *("1", "-1.5", "1e3", "0x1F", "Inf", "-Inf", "NaN", "1 + 2 * 3", "2 ^ 3 ^ 2", "-1 ^ 2"),
        *("(1 + 2) * 3", "7 % 3", "-7 % 3", "7 % -3", "1 / 0", "-1 / 0", "0 / 0", "5 % 0"),
        *("1 == bool 1", "1 > bool 2", "1 != bool NaN", "NaN == bool NaN", "1 atan2 2", "-(-3)"),
        *("time()", "pi()", "vector(3)", "vector(time())", "scalar(vector(4))", "10 - -3"),
        *('"a text"', "'it''s'", "scalar(nothing)", "scalar(power_watts)", "1e-7 * 1", "1e21 + 0"),
        *("vector(1) == vector(1)", "1e20", "123456789012345678", "0.1 + 0.2", "1e-6", "9.999e-7"),
    )


OVER_TIME = (*("avg", "min", "max", "sum", "count", "last", "stddev", "stdvar", "present"),)


def over_time() -> Iterator[Question]:
    for function in OVER_TIME:
        for selector, width in (
            *((POWER, "1m"), (POWER, "7m"), (ENERGY, "5m"), (LOAD, "12m"), (PLAIN, "3m")),
            *((f"{POWER} offset 3m", "2m"),),
        ):
            metric, _, offset = selector.partition(" ")
            yield Question(f"{function}_over_time({metric}[{width}] {offset})")
    for quantile in ("0", "0.25", "0.5", "0.95", "1", "-0.1", "1.5", "NaN"):
        yield Question(f"quantile_over_time({quantile}, {POWER}[5m])")
        yield Question(f"quantile_over_time({quantile}, {LOAD}[11m])")
    for function in ("min", "max", "count", "last", "present"):
        yield Question(f"{function}_over_time(odd[2m])")
    yield from _ask(
        f"quantile_over_time(scalar(price{{device='main'}}), {POWER}[5m])",
        f"absent_over_time({POWER}[5m])",
        "absent_over_time(nothing{device='x', phase=~'l1'}[5m])",
        f"absent_over_time({LOAD}{{device='once'}}[5m])",
        f"sum_over_time({POWER}[90s] @ 1760003044)",
        f"max_over_time({POWER}[1h] @ end())",
        f"avg_over_time({POWER}[3m] @ start() offset -4m)",
    )


RATES = ("rate", "increase", "irate", "delta", "idelta", "deriv", "changes", "resets")


def rates() -> Iterator[Question]:
    for function in RATES:
        for metric in (POWER, ENERGY, LOAD, "ups_status", PLAIN):
            for width in ("1m", "5m", "17m"):
                yield Question(f"{function}({metric}[{width}])")
        yield Question(f"{function}({ENERGY}[4m] offset 2m)")
        yield Question(f"{function}({ENERGY}[4m] @ 1760003044)")
        yield Question(f"{function}({ENERGY}[4m] offset -3m)")
    for seconds in ("0", "3600", "-600"):
        yield Question(f"predict_linear({POWER}[10m], {seconds})")
        yield Question(f"predict_linear({LOAD}[5m], {seconds})")
    yield from _ask(
        "changes(odd[4m])", f"predict_linear({ENERGY}[5m], scalar(price{{device='main'}}))"
    )
    for factors in ("0.3, 0.7", "0.9, 0.1", "0.5, 0.5"):
        for metric in (POWER, ENERGY, LOAD):
            arguments = f"({metric}[5m], {factors})"
            ours = f"double_exponential_smoothing{arguments}"
            yield Question(ours, theirs=f"holt_winters{arguments}")


def maths() -> Iterator[Question]:
    for function in (
        *("abs", "ceil", "floor", "round", "sqrt", "exp", "ln", "log2", "log10", "sgn"),
        *("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh"),
        *("acosh", "atanh", "rad", "deg"),
    ):
        yield from _ask(f"{function}({LOAD})", f"{function}(odd)", f"{function}({POWER} / 1000)")
    for function in (
        *("minute", "hour", "day_of_month", "day_of_week", "day_of_year", "days_in_month"),
        *("month", "year"),
    ):
        yield from _ask(f"{function}()", f"{function}(vector(1709210096))", f"{function}({ENERGY})")
        yield Question(f"{function}(vector(-86400.5))")
    yield from _ask(
        *(f"round({POWER}, {unit})" for unit in ("10", "0.1", "7", "-3")),
        *(f"clamp({POWER}, {low}, {high})" for low, high in ((-100, 100), (5, 5), (9, 1))),
        *(f"clamp_min({POWER}, 100)", f"clamp_max({POWER}, 100)", "clamp_max(odd, NaN)"),
        *("clamp_min(odd, 2)", f"timestamp({POWER})", f"timestamp({POWER} offset 1m)"),
        *(f"timestamp({POWER} + 1)", f"timestamp(timestamp({LOAD}))", f"-{POWER}", f"+{POWER}"),
        *(f"absent({POWER})", "absent(nothing)", "absent(nothing{device='x', phase!='l1'})"),
        *("absent(sum(nothing))", f"absent({LOAD}{{device='ended'}})", f"scalar(sum({POWER}))"),
        *("absent(nothing{device='x', device='y', phase='l1'})", "timestamp(odd)"),
        f"scalar({LOAD}{{device='ended'}})",
    )


def aggregations() -> Iterator[Question]:
    for operator in ("sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"):
        for metric in (POWER, LOAD, ENERGY):
            for how in ("", " by (device)", " without (phase)", " by (phase, device)", " by (no)"):
                yield Question(f"{operator}{how} ({metric})")
    for operator in ("min", "max", "count", "group", "sum"):
        yield Question(f"{operator}(odd{{kind!='huge'}})")
    for how in ("", " by (device)", " without (device, site)"):
        for count in ("1", "2", "100", "0", "-1"):
            for operator in ("topk", "bottomk"):
                yield Question(f"{operator}{how} ({count}, {POWER})")
        for quantile in ("0.5", "0.9", "-1", "2", "0"):
            yield Question(f"quantile{how} ({quantile}, {POWER})")
        yield Question(f'count_values{how} ("value", ups_status)')
        yield Question(f'count_values{how} ("device", round({LOAD}))')
    yield from _ask(
        f"sum(rate({ENERGY}[5m])) by (device)",
        f"sum by (device) ({POWER}) / on (device) group_left sum by (device) ({ENERGY})",
        f"topk(2, sum by (device) ({POWER}))",
        f"topk(scalar(count(price)), {POWER})",
        f"avg(avg_over_time({POWER}[5m])) without (site)",
        "sum(nothing)",
        "count(nothing) or vector(0)",
        "sum by (__name__) ({device='main'})",
        f"max without () ({POWER})",
        f"quantile(scalar(price{{device='main'}}), {POWER})",
    )


ARITHMETIC = ("+", "-", "*", "/", "%", "^")
COMPARISON = ("==", "!=", ">", "<", ">=", "<=")


def binary() -> Iterator[Question]:
    for sign in ARITHMETIC:
        yield from _ask(
            f"{POWER} {sign} 3",
            f"3 {sign} {LOAD}",
            f"{POWER} {sign} {POWER} offset 1m",
            f"{POWER} {sign} on (device) group_left price",
            f"price {sign} on (device) group_right {POWER}",
            f"odd {sign} 2",
            f"sum by (device) ({POWER}) {sign} ignoring (phase) sum by (device) ({ENERGY})",
        )
    for sign in COMPARISON:
        for kind in ("", " bool"):
            yield from _ask(
                f"{POWER} {sign}{kind} 500",
                f"500 {sign}{kind} {POWER}",
                f"{POWER} {sign}{kind} {POWER} offset 1m",
                f"{LOAD} {sign}{kind} on (device) {LOAD} offset 20m",
                f"odd {sign}{kind} 1",
                f"{POWER} {sign}{kind} on (device) group_left avg by (device) ({POWER})",
            )
    yield from _ask(
        f"{POWER} atan2 3",
        f"3 atan2 sum by (device) ({LOAD})",
        "abs(odd) atan2 abs(odd)",
        f"abs({POWER}) atan2 on (device) group_left abs(price)",
    )


def matched() -> Iterator[Question]:
    yield from _ask(
        f"{POWER} * on (device) group_left (model) device_info",
        f"{POWER} * on (device) group_left (model, site) device_info",
        f"device_info * on (device) group_right (model) {POWER}",
        f"price * ignoring (tariff) group_right (tariff) sum by (device) ({POWER})",
        f"sum by (device) ({POWER}) * on (device) price",
        f"{POWER} + on (device, phase) {POWER}",
        f"{POWER} + ignoring (site) {POWER}",
        f"{POWER} / on () group_left sum({POWER})",
        f"{POWER} + on (device) {POWER}",
        f"{POWER} + on (device) price",
        f"price + on (device) {POWER}",
        f"({POWER} - {POWER} offset 1h) / {POWER} offset 1h",
        f"100 * {POWER} / scalar(sum({POWER}))",
        f"{POWER} > 100 < 500",
        f"{POWER} + {ENERGY}",
        f"1 - {LOAD} > 0.5",
        f"-{LOAD} ^ 2",
        f"2 ^ -{LOAD}",
    )


def sets() -> Iterator[Question]:
    for word in ("and", "or", "unless"):
        yield from _ask(
            f"{POWER} {word} {POWER} > 500",
            f"{POWER} {word} on (device) price",
            f"price {word} on (device) {POWER}",
            f"{POWER} {word} ignoring (phase, site) {ENERGY}",
            f"{LOAD} {word} {LOAD} offset 30m",
            f"{POWER} {word} on () vector(1)",
            f"{POWER} {word} nothing",
            f"nothing {word} {POWER}",
            f"{POWER}{{phase='l1'}} {word} {POWER}{{phase='l2'}}",
            f"{LOAD} > 0.5 {word} {LOAD} < 0.2",
            f"sum({POWER}) {word} vector(0)",
        )
    yield from _ask(
        f"{POWER} and {POWER} > 100 or {POWER} < -100",
        f"{POWER} unless {POWER} > 0 and {POWER} < 1000",
        f"sum by (device) ({POWER}) or on (device) price or on (device) {ENERGY}",
    )


def subqueries() -> Iterator[Question]:
    for function in (*(f"{name}_over_time" for name in OVER_TIME), "rate", "delta", "deriv"):
        yield from _ask(
            f"{function}({POWER}[10m:1m])",
            f"{function}(rate({ENERGY}[5m])[20m:2m])",
            f"{function}({LOAD}[15m:30s] offset 5m)",
        )
    yield from _ask(
        f"max_over_time(rate({ENERGY}[5m])[1h:])",
        f"avg_over_time(sum by (device) ({POWER})[10m:1m])",
        f"max_over_time(({POWER} > 0)[30m:1m])",
        f"sum_over_time(({POWER} * 2)[10m:5m] @ 1760003044)",
        f"max_over_time(({POWER} offset 5m)[10m:1m] offset 3m)",
        f"min_over_time(max_over_time({POWER}[5m:1m] offset 7s)[20m:5m])",
        f"count_over_time(({POWER} @ 1760003044)[10m:1m])",
        f"sum_over_time(({POWER} @ end())[10m:1m] @ start())",
        "avg_over_time(time()[10m:1m])",
        "sum_over_time(vector(1)[10m:1m] offset 1m)",
        f"quantile_over_time(0.5, {POWER}[10m:1m])",
        "absent_over_time(nothing[10m:1m])",
        f"absent_over_time({LOAD}{{device='once'}}[10m:1m])",
        f"deriv(rate({ENERGY}[5m])[30m:1m])",
        f"predict_linear({LOAD}[10m:1m], 600)",
        f"timestamp(last_over_time({POWER}[10m:1m]))",
    )


def labels() -> Iterator[Question]:
    for target, replacement, source, pattern in (
        *(("room", "$1", "device", "(.*)"), ("room", "x-$1-$2", "phase", "(l)(.)")),
        *(("room", "${digit}", "phase", "l(?P<digit>.)"), ("device", "", "device", "main")),
        *(("device", "$1", "phase", "nothing(.*)"), ("room", "$1", "absent", "(.*)")),
        *(("room", "fixed", "absent", ""), ("__name__", "renamed", "device", ".*")),
        *(("phase", "", "phase", ".*"), ("room", "$1x", "device", "(m.*|s.*)")),
        *(("bad-name", "x", "device", ".*"),),
    ):
        arguments = f'"{target}", "{replacement}", "{source}", "{pattern}"'
        yield Question(f"label_replace({POWER}, {arguments})")
    yield from _ask(
        f'label_join({POWER}, "both", "-", "device", "phase")',
        f'label_join({POWER}, "both", "", "device", "absent", "phase")',
        f'label_join({POWER}, "both", "-")',
        f'label_join({POWER}, "device", ", ", "phase", "device")',
        f'label_join(sum({POWER}), "both", "-", "device", "phase")',
        f'sum by (room) (label_replace({POWER}, "room", "$1", "device", "(.).*"))',
        f'label_replace(rate({ENERGY}[5m]), "__name__", "r", "", "")',
    )
    for sort in ("sort", "sort_desc"):
        yield Question(f"{sort}({POWER})", ordered=True)
        yield Question(f"{sort}(sum by (device) ({POWER}))", ordered=True)
    yield Question(f"topk(5, {POWER})", ordered=True)
    yield Question(f"bottomk(5, {POWER})", ordered=True)


def histograms() -> Iterator[Question]:
    for quantile in ("0", "0.1", "0.5", "0.9", "0.99", "1", "-1", "2", "NaN"):
        yield from _ask(
            f"histogram_quantile({quantile}, poll_seconds_bucket)",
            f"histogram_quantile({quantile}, rate(poll_seconds_bucket[5m]))",
            f"histogram_quantile({quantile}, sum by (le) (rate(poll_seconds_bucket[5m])))",
        )
    yield from _ask(
        "histogram_quantile(0.9, poll_seconds_bucket{le!='+Inf'})",
        f"histogram_quantile(0.9, {POWER})",
        "histogram_quantile(0.9, sum by (device, le) (increase(poll_seconds_bucket[10m])))",
        "rate(poll_seconds_count[5m])",
    )


def refusals() -> Iterator[Question]:
    """Both sides have to refuse, in the same class of error."""
    yield from _ask(
        *("", "1 +", "sum(", "foo[", "rate(x)", f"{POWER}[5m]", "1 == 1", "sum(1)", "foo()"),
        *('{a!="x"}', '{a!~".+"}', '{a=""}', '{a=~"|x"}', '{a!~"x", b=""}', '{a=~"", b!="x"}'),
        *("{,}", '{a!="" b!=""}', '{a!=""', '{a!=""}{b!=""}', '{a!~"("}', '{__name__=""}'),
        *(f'{POWER}{{__name__!=""}}', "x offset 1s offset 1s", "sum(x) offset 1s", "1 offset 1s"),
        *("x offset 1000y", "x[1000y]", "x[5m:1000y]", "x offset inf", "x[9999999999999s]"),
        *('{a=~".*"}', "{}", "x{a=~'(('}", "rate(x[5m], 1)", "x offset 5m offset 5m"),
        *("x[5m:] + 1", '"a" + 1', "label_replace(x, 'a', 'b')", "topk(x)", "1 and 2"),
        *("x and 1", "vector(x)", "clamp(x)", "x @ foo", "absent(1)", "x{a=1}", "x{__name__='y'}"),
        *("sum by (1) (x)", "x == bool", "x on (a) y", "a + on (b) group_left (b) c"),
        *(
            "x and on (a) group_left y",
            "x[0s]",
            "x[-5m]",
            "rate(x[5m]) offset 5m",
            "x[5m] offset x",
        ),
        *(f"{POWER} * on (device) group_left {POWER}", f"{POWER} + on (site) {POWER}"),
        f'label_replace({POWER}, "phase", "x", "phase", ".*") + 0',
        f'label_join({POWER}, "bad-name", "-", "device")',
        f"count_values('bad-name', {POWER})",
        f"quantile_over_time({POWER}, {POWER}[5m])",
        f"-{{__name__=~'power_watts|{LOAD}'}} + 0",
        "rate({device='main'}[5m])",
    )


GROUPS = {
    made.__name__: made
    for made in (
        *(selectors, literals, over_time, rates, maths, aggregations, binary, matched),
        *(sets, subqueries, labels, histograms, refusals),
    )
}
