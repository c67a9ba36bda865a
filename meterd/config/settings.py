"""`Settings`, the model of meterd.yaml, and its sections.

Durations are seconds as floats, sizes are bytes. Field names are the keys of the file, except
that a rule's `for` is `for_` here.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PlainValidator,
    ValidationInfo,
)
from pydantic import field_validator as check

from meterd.config.alerts import AlertsSettings, HookSettings, RuleSettings
from meterd.config.api import ApiSettings, TlsSettings, UserSettings
from meterd.config.cluster import ClusterSettings
from meterd.config.codes import Code, ValueFlaw
from meterd.config.duration import between
from meterd.config.fields import Labels, OrEmpty, Section, Switch, TimeZone
from meterd.config.link_urls import BAUD, LINE_KEYS, link_flaw
from meterd.config.listen import is_loopback, split_listen
from meterd.config.names import DeviceId, Name
from meterd.config.sizes import size_between
from meterd.config.store_urls import SQLITE_PREFIX, store_url
from meterd.config.tariffs import PricesSettings, TariffRuleSettings, Tariffs, TariffSettings


def _link_url(url: str) -> str:
    if flaw := link_flaw(url):
        raise flaw.error()
    return url


def _link_or_name(link: str) -> str:
    # crosscheck looks a name up in links:, where it has the whole file.
    return _link_url(link) if "://" in link else link


UnitId = Annotated[int, Field(ge=0, le=255)]


class SiteSettings(Section):
    """The site: its name, and the time zone of days and months."""

    name: Annotated[str, Field(min_length=1, max_length=100)] = "Home"
    timezone: TimeZone = "UTC"


class LinkSettings(Section):
    """A bus that devices share, or that needs tuning.

    `gap`: pause between two exchanges, `unit_gap`: pause before another unit id is addressed,
    `connect_delay`: pause after connecting; None: as the maps of the meters on it say.
    `baud`, `parity`, `stop`, `bytes`: parameters of the serial line, the link's own or the one
    behind a gateway (then for the calculation of the bus load). Options of the URL override them.
    `keep_open` false closes the link after each poll, for devices that accept one client only.
    """

    url: Annotated[str, AfterValidator(_link_url)]
    gap: Annotated[float, between("0s", "10s")] | None = None
    unit_gap: Annotated[float, between("0s", "10s")] | None = None
    connect_delay: Annotated[float, between("0s", "30s")] | None = None
    timeout: Annotated[float, between("10ms", "60s")] | None = None
    connect_timeout: Annotated[float, between("100ms", "60s")] = 3.0
    baud: Annotated[int, Field(ge=BAUD[0], le=BAUD[1])] | None = None
    parity: Literal["N", "E", "O"] | None = None
    stop: Literal[1, 2] | None = None
    bytes: Literal[7, 8] | None = None
    keep_open: Switch = True

    @property
    def line(self) -> dict[str, str]:
        """The serial line's parameters as options of a URL, without those that are not set."""
        values = {key: getattr(self, key) for key in LINE_KEYS}
        return {key: str(value) for key, value in values.items() if value is not None}


def _as_tuple(value: object) -> object:
    """A single command is a list of one."""
    return (value,) if isinstance(value, str) else value


Command = Annotated[str, Field(pattern=r"^[a-z0-9]+([._-][a-z0-9]+)*$", max_length=64)]


class DeviceSettings(Section):
    """One device. `options` holds its other keys, in the driver's own model.

    `direction` reversed: the meter is wired the other way round, so that powers change their sign,
    and import and export swap. `timeout` None: the link's. `commands`: those that clients of the
    API may send to it.
    """

    driver: Annotated[str, Field(min_length=1)]
    link: Annotated[str, AfterValidator(_link_or_name)]
    interval: Annotated[float, between("100ms", "1d")] = 10.0
    direction: Literal["normal", "reversed"] = "normal"
    labels: Annotated[Labels, OrEmpty] = Field(default_factory=dict)
    enabled: Switch = True
    timeout: Annotated[float, between("10ms", "60s")] | None = None
    commands: Annotated[tuple[Command, ...], BeforeValidator(_as_tuple)] = ()
    options: Any = None


class KeepSettings(Section):
    """Retention of samples in seconds; None: for ever."""

    raw: Annotated[float, between("1h", "36500d")] | None = None


class SpoolSettings(Section):
    """Where polls wait while the store cannot be written: in memory, then in spool files.

    `memory`: bytes kept in memory. `file`: prefix of the spool files, None: beside the store.
    `size`: limit in bytes of all spool files.
    """

    file: Annotated[str, Field(min_length=1)] | None = None
    memory: Annotated[int, size_between("1MB", "1GB")] = 16_000_000
    size: Annotated[int, size_between("1MB", "100GB")] = 64 << 20


class StoreSettings(Section):
    """The store. `commit`: seconds between commits, so the most that a power cut can lose.

    `rows`: retention in seconds of samples as plain rows of a table, besides blocks; None: none.
    `hours`: whether each hour is a plain row, too; None: on servers, where SQL clients are.
    `journal`: the WAL is a table, or a file beside the database, which writes less to flash.
    `reserve`: bytes of the ballast file for a full disk; 0: none.
    """

    url: Annotated[str | tuple[str, ...], PlainValidator(store_url), Field(repr=False)] = (
        "sqlite:///meterd.db"
    )
    commit: Annotated[float, between("1s", "60s")] = 30.0
    keep: Annotated[KeepSettings, OrEmpty] = KeepSettings()
    rows: Annotated[float, between("1h", "36500d")] | None = None
    hours: Switch | None = None
    journal: Literal["table", "file"] = "table"
    spool: Annotated[SpoolSettings, OrEmpty] = SpoolSettings()
    reserve: Annotated[int, size_between("0", "1GB")] = 4 << 20

    @property
    def plain_hours(self) -> bool:
        """Whether hours are plain rows."""
        first = self.url if isinstance(self.url, str) else self.url[0]
        return not first.startswith(SQLITE_PREFIX) if self.hours is None else self.hours


class ListenSettings(Section):
    """A listen address for a protocol without login: loopback only, unless `insecure` is set."""

    insecure: Switch = False
    listen: str

    @property
    def host(self) -> str:
        return split_listen(self.listen)[0]

    @property
    def port(self) -> int:
        return split_listen(self.listen)[1]

    @check("listen")
    @classmethod
    def _check_exposure(cls, listen: str, info: ValidationInfo) -> str:
        host, _ = split_listen(listen)
        # pydantic validates in the order of the fields: `insecure` is absent from `data` only
        # where its own value is invalid.
        if is_loopback(host) or info.data.get("insecure", True):
            return listen
        raise ValueFlaw(
            Code.OPEN_LISTEN,
            "{} would serve the network, and Modbus has no login: anybody could read the registers",
            "listen on 127.0.0.1, or, where the network itself is trusted, say `insecure: true`",
        ).error()


class ProxySettings(ListenSettings):
    """The read-only Modbus TCP proxy: `devices` maps the unit ids that it serves to devices.

    `max_age`: registers older than this many seconds are read again.
    """

    listen: str = "127.0.0.1:1502"
    devices: Annotated[dict[UnitId, DeviceId], Field(min_length=1)]
    max_age: Annotated[float, between("100ms", "1h")] = 2.0


class Settings(Section):
    """The whole configuration. `Settings()` is a site without devices."""

    site: Annotated[SiteSettings, OrEmpty] = SiteSettings()
    links: Annotated[dict[Name, LinkSettings], OrEmpty] = Field(default_factory=dict)
    devices: Annotated[dict[DeviceId, DeviceSettings], OrEmpty] = Field(default_factory=dict)
    store: Annotated[StoreSettings, OrEmpty] = StoreSettings()
    cluster: ClusterSettings | None = None
    api: Annotated[ApiSettings, OrEmpty] = ApiSettings()
    alerts: Annotated[AlertsSettings, OrEmpty] = AlertsSettings()
    proxy: ProxySettings | None = None
    tariffs: Tariffs = Field(default_factory=dict)


SECTIONS: dict[tuple[str, ...], type[BaseModel]] = {
    (): Settings,
    ("site",): SiteSettings,
    ("links", "*"): LinkSettings,
    ("devices", "*"): DeviceSettings,
    ("store",): StoreSettings,
    ("store", "keep"): KeepSettings,
    ("store", "spool"): SpoolSettings,
    ("cluster",): ClusterSettings,
    ("api",): ApiSettings,
    ("api", "tls"): TlsSettings,
    ("api", "users", "*"): UserSettings,
    ("proxy",): ProxySettings,
    ("alerts",): AlertsSettings,
    ("alerts", "rules", "*"): RuleSettings,
    ("alerts", "hooks", "*"): HookSettings,
    ("tariffs", "*"): TariffSettings,
    ("tariffs", "*", "prices", "*"): PricesSettings,
    ("tariffs", "*", "prices", "*", "rules", "*"): TariffRuleSettings,
}
"""The model of each section by its path; `*` matches any name of a device, link, rule…"""

NAME_MAPPINGS = frozenset(
    {
        ("links",),
        ("devices",),
        ("proxy", "devices"),
        ("devices", "*", "labels"),
        ("alerts", "rules"),
        ("alerts", "hooks"),
        ("api", "users"),
        ("tariffs",),
        ("tariffs", "*", "prices", "*", "rates"),
    }
)
"""Mappings whose keys are free names, so that a key `x_file` is no *_file key there."""


def fits(path: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether the path matches the pattern, in which `*` matches any step."""
    return len(path) == len(pattern) and all(
        expected in ("*", step) for step, expected in zip(path, pattern, strict=True)
    )


def keys_at(path: tuple[str, ...]) -> list[str]:
    """The keys that the section at this path may have; empty where there is no such section."""
    for pattern, model in SECTIONS.items():
        if fits(path, pattern):
            fields = model.model_fields.items()
            return [field.alias or name for name, field in fields if name != "options"]
    return []
