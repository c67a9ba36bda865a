"""Hints for authors of maps: from usual mistakes to what was probably meant."""

import difflib
import re
from collections.abc import Iterable

from meterd.model import quantity, units

FUNCTIONS = "3 reads holding, 4 input registers, 1 coils, 2 discrete inputs"
# Names of types in other programs and manuals.
_TYPES = {
    "float": "f32",
    "real": "f32",
    "single": "f32",
    "double": "f64",
    "half": "f16",
    "word": "u16",
    "dword": "u32",
    "qword": "u64",
    "uint": "u16",
    "int": "s16",
    "long": "s32",
    "ulong": "u32",
    "string": "str",
    "ascii": "str",
    "text": "str",
    "char": "str",
    "bool": "bits",
    "bit": "bits",
    "boolean": "bits",
    "bitfield": "bits",
    "bitmap": "bits",
    "byte": "bits with bit: [0, 7]",
    "uint8": "bits with bit: [0, 7], or [8, 15] for the high byte",
    "nibble": "bits with bit: [0, 3]",
    "mod10": "m10k",
    "mod10k": "m10k",
    "mod10000": "m10k",
    "sign_magnitude": "m16 or m32",
    "t5": "e8u24",
    "t6": "e8s24",
}


def words_of(one: object, other: object) -> str:
    """The notation of a number in two registers."""
    return (
        f"words: [{one}, {other}] with word_order: little where {one} has the low word, "
        "big where it has the high one"
    )


WORDS = words_of(625, 690)
SUM = "sum: [{address: 3500, unit: kWh}, {address: 3501, unit: MWh}]"
ORDERS = (
    "a list says which word of the number each register holds, 1 the highest: "
    "big is [1, 2, 3, 4], little [4, 3, 2, 1], swapped halves are [3, 4, 1, 2]"
)
# Keys of other programs, and guesses, for values that are composed of several registers.
_HALVES = f"halves of one number: {WORDS}; two numbers that are added: {SUM}"
_RATIO = 'multiply: "@ADDRESS" or divide: "@ADDRESS", or {address: 4000, type: f32}'
_KEYS = {
    **dict.fromkeys(
        "high low hi lo msb lsb msw lsw high_word low_word addresses address2".split(),  # noqa: SIM905
        _HALVES,
    ),
    **dict.fromkeys("parts add plus and addition registers".split(), SUM),  # noqa: SIM905
    **dict.fromkeys(
        "factor ratio ct vt pt ct_ratio vt_ratio pt_ratio times multiplier by".split(),  # noqa: SIM905
        f"a number: scale; a register that the value is multiplied with: {_RATIO}",
    ),
    **dict.fromkeys("divisor divided".split(), f"a number: scale; a register: {_RATIO}"),  # noqa: SIM905
    **dict.fromkeys(
        "sign_register signed negative direction polarity".split(),  # noqa: SIM905
        "a register that holds the sign: sign: {address: 12, negative: 1}",
    ),
    **dict.fromkeys("exponent decade".split(), 'scale: "@ADDRESS", or type: e8s24'),  # noqa: SIM905
}
# Words that difflib does not match to the quantity's name.
_QUANTITIES = {
    "power": ["active_power"],
    "energy": ["active_energy.import"],
    "active_energy": ["active_energy.import", "active_energy.export", "active_energy.total"],
    "pf": ["power_factor"],
    "cosphi": ["power_factor.displacement"],
    "cos_phi": ["power_factor.displacement"],
    "volts": ["voltage.l1"],
    "amps": ["current.l1"],
    "hz": ["frequency"],
    "kwh": ["active_energy.import"],
    "import": ["active_energy.import"],
    "export": ["active_energy.export"],
}
_ROWS = ("registers", "values", "points", "quantities", "row")
_SIZED = re.compile(r"(uint|int|float|real|sint|i|u|s|f)_?(16|32|48|64)")
_LETTERS = {"uint": "u", "u": "u", "int": "s", "sint": "s", "i": "s", "s": "s"}
_HEX = re.compile(r"(?:0x|\$)?([0-9a-f]+)h?", re.IGNORECASE)
# First digit of reference numbers in manuals (30001, 40001), and the function that reads them.
_REFERENCES = {3: 4, 4: 3}
# Parts of the YAML reader's messages, and hints.
_YAML = (
    ("'\\t'", "indent with blanks, not with tabs"),
    ("character '@'", 'put it in quotes: "@5"'),
    ("character '%'", "put it in quotes: '%'"),
    ("cannot start any token", "put it in quotes"),
    ("duplicate key", "each key, and each quantity, may stand there once"),
    ("mapping values are not allowed", "look at the indentation of this line and the one above"),
    ("expected ',' or '}'", "a { is not closed, here or in the line above"),
    ("expected ',' or ']'", "a [ is not closed, here or in the line above"),
    ("block end", "rows that belong together begin in the same column"),
    ("undefined alias", "an anchor &name has to stand above its *name"),
)


def of_yaml(what: str) -> str:
    """A hint to a mistake that the YAML reader found; empty if there is none."""
    return next((hint for part, hint in _YAML if part in what), "")


def of_key(key: object, known: Iterable[str], elsewhere: str = "") -> str:
    """A hint to an unknown key. `elsewhere` is the hint where it belongs, if there is one."""
    words = list(known)
    if isinstance(key, str) and key.lower() in _KEYS and "scale" in words:
        return _KEYS[key.lower()]
    if isinstance(key, str) and key.partition(":")[0] in words:
        return "a blank belongs behind the colon"
    if elsewhere:
        return elsewhere
    near = difflib.get_close_matches(str(key), words, n=1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(words)}"


def instead_of_rows(keys: Iterable[object]) -> str:
    """The key that was probably meant to be `rows`; empty if there is none."""
    names = (str(key) for key in keys if str(key).lower() in _ROWS)
    return next(names, "")


def of_address(value: object) -> str:
    """A hint to an invalid address."""
    if isinstance(value, list) and len(value) == 2:
        return f"halves of one number: {words_of(*value)}; two numbers that are added: {SUM}"
    if isinstance(value, list):
        return _HALVES
    if isinstance(value, str) and (match := _HEX.fullmatch(value)):
        return f"hexadecimal is written 0x{match[1].upper()}, without quotes"
    if isinstance(value, int) and 300_001 <= value < 500_000:
        kind, register = divmod(value, 100_000)
        return (
            f"the address is what is sent: {value} in a manual is mostly function "
            f"{_REFERENCES[kind]}, address {register - 1}"
        )
    return "the register as it is sent, counted from 0; manuals often print one more"


def of_type(kind: str) -> str:
    """A hint to an unknown type."""
    word = kind.lower()
    if match := _SIZED.fullmatch(word):
        return f"did you mean {_LETTERS.get(match[1], 'f')}{match[2]}?"
    return f"did you mean {_TYPES[word]}?" if word in _TYPES else ""


def of_words(registers: list[int], wanted: int) -> str:
    """A hint to a list of registers whose length is not the type's number of words."""
    if len(registers) == 2 and wanted == 1:
        return "two registers are a u32, s32 or f32"
    return f"{wanted} registers, one by one" if wanted > 1 else "address: the register"


def of_term(key: str, value: object) -> str:
    """A hint to a sign or ratio without a register."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if key == "sign":
            return "the register that holds the sign: sign: {address: 12, negative: 1}"
        return f'a register is {key}: "@{value:g}"; a number that is always the same is scale'
    return f"{key}: {{address: 4000, type: f32}}"


def of_unit(unit: str, base: str) -> str:
    """A hint to a unit that does not convert to `base`."""
    return units.suggest(unit, base)


def of_quantity(name: str) -> str:
    """A hint to an unknown quantity."""
    if name.startswith(quantity.GUARDED):
        return f"{quantity.GUARDED}… is made by meterd from {name.removeprefix(quantity.GUARDED)}"
    if name == quantity.DEVICE_UP:
        return "it tells whether the device answered; a contact of yours is x.contact"
    if name.lower().startswith("x."):
        return "a name of your own is x. and small letters, digits and _: x.door_open"
    word = name.lower()
    longer = [entry for entry in quantity.CATALOGUE if entry.startswith(f"{word}.")]
    names = _QUANTITIES.get(word, longer[:3])
    return f"did you mean {' or '.join(names)}?" if names else quantity.suggest(word)


def of_scale(value: object) -> str:
    """A hint to an invalid scale."""
    text = str(value).replace(" ", "")
    if match := re.fullmatch(r"@(\d+)/(\d+)", text):
        return f'write "@{match[1]}*{1 / max(int(match[2]), 1):g}"'
    if match := re.fullmatch(r"1/(\d+)", text):
        return f"write {1 / max(int(match[1]), 1):g}"
    try:
        return f"write {float(text):g}, without quotes" if isinstance(value, str) else ""
    except ValueError:
        return '"@ADDRESS*0.1" is the register\'s power of ten, times 0.1'
