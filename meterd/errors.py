"""Everything that may go wrong, named by who acts on it.

`code` is a stable word for statuses, metrics and scripts; the text is for people. Each error class
has an enum of its codes: the value of a member is the word that is seen outside.
Foreign exceptions are turned into one of these once, at the edge that meets them.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

# A Modbus exception is one byte.
_MODBUS_EXCEPTION = re.compile(r"exception_(0|[1-9]\d?|1\d\d|2[0-4]\d|25[0-5])", re.ASCII)


class GeneralCode(StrEnum):
    """Codes of errors that are neither of a link, a device, the store nor a hook.

    A person acts on all of them, and none is tried again by itself.
    """

    ERROR = "error"
    """Nothing more precise: the text alone says what it is."""
    CONFIG = "config"
    """ConfigError: the configuration, a map, or an argument like one; correct what was written."""
    BUG = "bug"
    """meterd did what nobody foresaw; the log has the stack: report it."""
    UNKNOWN_DEVICE = "unknown_device"
    """The store has no device of that name (404 by REST): name one that it has."""
    DEVICE_EXISTS = "device_exists"
    """A device, in the configuration or in the store, has the name (409): choose another."""
    NOT_REPLACED = "not_replaced"
    """The device has no counter, or none that a replacement at that time would touch (409)."""
    IMPORT = "import"
    """The file to import has mistakes, named by line, or days whose samples are deleted; nothing
    was written."""
    OUTPUT = "output"
    """The file or the pipe that a command writes to takes nothing."""
    EXTRA = "extra"
    """An optional package is missing: install the extra that the text names."""
    API = "api"
    """The running daemon was asked and refused, or did not answer."""
    LISTEN = "listen"
    """A listening address cannot be bound, or is given to two servers."""
    TLS = "tls"
    """Certificate or key cannot be read, or do not fit; the former ones are used on."""
    TOKENS = "tokens"
    """The file of tokens cannot be read or written, is malformed, or is full."""
    TAKEN = "taken"
    """A token has that name already: revoke it, or choose another."""
    UNKNOWN = "unknown"
    """No token has that name."""
    PASSWORD = "password"  # noqa: S105 (a code, not a secret)
    """The new password is too short."""


class PluginCode(StrEnum):
    """Base of the enum in which a plug-in defines codes of its own, for LinkError and DeviceError.

    Each is the label of a time series and a word of REST: few of them, made of [a-z0-9_].
    """


class LinkCode(StrEnum):
    """Codes of LinkError and ProtocolError, and as such of polls that failed.

    The next poll tries again by itself, after what the bus backs off.
    """

    ERROR = "error"
    """A plug-in's link named no cause of its own."""
    TIMEOUT = "timeout"
    """No answer within the link's timeout, or only bytes that never became a frame.

    The link stays open, until too many timeouts follow each other.
    """
    REFUSED = "refused"
    """The host answers, and nobody listens on that port: start the gateway, or correct the port."""
    CLOSED = "closed"
    """The peer closed the connection, or reset it, while it was in use.

    An exchange on a connection that had been used before is sent once more on a new one.
    """
    UNREACHABLE = "unreachable"
    """The host cannot be reached, or takes no connection in time: network, power, firewall."""
    DNS = "dns"
    """The host's name cannot be resolved."""
    TLS = "tls"
    """The peer's certificate is not trusted: a person corrects it, or the link's TLS options."""
    PORT_GONE = "port_gone"
    """The serial port is not there, is no serial port, or was unplugged."""
    PORT_TAKEN = "port_taken"
    """Another program has the serial port."""
    PORT_DENIED = "port_denied"
    """meterd's user may not open the serial port: put the user into the port's group."""
    BAD_REPLY = "bad_reply"
    """Frames came, and none fits the request: another unit, function, count or transaction."""
    BAD_FRAME = "bad_frame"
    """What came is no frame of the protocol: the wrong framer, or no Modbus port."""
    TWO_REPLIES = "two_replies"
    """Two frames fit one request: two units share a number, or a second master asks. Neither is
    believed."""
    FOREIGN_TRAFFIC = "foreign_traffic"
    """A second master asks on the same bus, and it cannot be told which reply was awaited."""
    FLOOD = "flood"
    """More bytes came than any frame has; the connection is closed."""
    GARBLED = "garbled"
    """Megatec: a line that is no reply to the command; line noise, or another protocol."""


class DeviceCode(StrEnum):
    """Codes of DeviceError: the device answered over a link that works. Polled again as usual.

    Exceptions that the Modbus standard does not list are members without a name in the source,
    `exception_9` and `exception_12` to `exception_255`: DeviceCode("exception_66").
    """

    ERROR = "error"
    """A plug-in's driver named no cause of its own."""
    EXCEPTION_1 = "exception_1"
    """Modbus, illegal function: not asked again (Unsupported)."""
    EXCEPTION_2 = "exception_2"
    """Modbus, illegal data address: not asked again (Unsupported)."""
    EXCEPTION_3 = "exception_3"
    """Modbus, illegal data value: not asked again (Unsupported)."""
    EXCEPTION_4 = "exception_4"
    """Modbus, server device failure: the device reports a fault of its own."""
    EXCEPTION_5 = "exception_5"
    """Modbus, acknowledge: it still works on it; a longer interval helps."""
    EXCEPTION_6 = "exception_6"
    """Modbus, server device busy: a longer interval helps."""
    EXCEPTION_7 = "exception_7"
    """Modbus, negative acknowledge: the device reports a fault of its own."""
    EXCEPTION_8 = "exception_8"
    """Modbus, memory parity error: the device reports a fault of its own."""
    EXCEPTION_10 = "exception_10"
    """Modbus, gateway path unavailable: the gateway's settings, or the unit's number."""
    EXCEPTION_11 = "exception_11"
    """Modbus, gateway target failed to respond: wires, baud rate, or number of the unit."""
    UNSUPPORTED = "unsupported"
    """Megatec: the unit echoes or refuses the command; not asked again (Unsupported)."""
    ALL_REFUSED = "all_refused"
    """Each row of the map was refused: the map is not of this device."""
    NOTHING_SAID = "nothing_said"
    """The driver's read() gave no reading at all."""
    DRIVER_STUCK = "driver_stuck"
    """The driver's read() did not come back in time, and was cancelled."""
    DRIVER_BUG = "driver_bug"
    """The driver raised what is none of these errors; the log has the stack: its author acts."""
    NO_SUNSPEC = "no_sunspec"
    """No SunSpec map begins at any of the addresses where one may: the driver, or the unit."""
    NO_PART = "no_part"
    """The SunSpec device lacks the part that the configuration names: a person corrects it."""
    MOVED = "moved"
    """The SunSpec model is not at its registers any more: the device is surveyed anew."""
    ON_BATTERY = "on_battery"
    """Megatec: no battery test is started while the UPS runs on battery. Not repeated."""
    BATTERY_LOW = "battery_low"
    """Megatec: no battery test is started while the battery is low. Not repeated."""
    ELSEWHERE = "elsewhere"
    """Cluster: the meterd that holds the device's lease could not read it."""

    @classmethod
    def _missing_(cls, value: object) -> "DeviceCode | None":
        if not isinstance(value, str) or not _MODBUS_EXCEPTION.fullmatch(value):
            return None
        member = str.__new__(cls, value)
        member._name_, member._value_ = value.upper(), value
        # At most 256 are ever made, and each one only once.
        cls._value2member_map_.setdefault(value, member)
        return member


class StoreCode(StrEnum):
    """Codes of StoreError. What was polled is kept in memory and in the spool in any case."""

    UNAVAILABLE = "unavailable"
    """The store cannot be used now, for a reason that is none of the others.

    Seen outside as one word, with four reasons behind it:
    - it is not open in this process: starting, reloading, stopping; whoever asked asks again;
    - the disk or the server says no (rights, input/output error, password, another program's
      database, an operation that a cluster does not allow): a person acts, and the store's thread
      tries again with every commit;
    - UnforeseenError: a bug in the store's thread, or rows that no meterd wrote; the log has the
      stack; tried again with every commit, after the rows were looked through;
    - GoneError: its file was deleted or replaced while it was open; the store begins anew.
    """
    FULL = "full"
    """The disk, the quota or the server's disk is full: make room. The ballast file is released,
    and it is tried again with every commit."""
    CORRUPT = "corrupt"
    """Something that was stored cannot be read. The database file or the row is put aside and
    the rest goes on; the same read fails again."""
    NEWER_SCHEMA = "newer_schema"
    """A later meterd wrote the store: run that one (exit code 78). Never tried again."""
    OLDER_SCHEMA = "older_schema"
    """A command that only reads met a store of an earlier meterd: `meterd db migrate`."""
    NO_STORE = "no_store"
    """A command needs a store, and there is none, or an empty one: start meterd once."""
    SETTINGS = "settings"
    """`store:` asks for what cannot be, its URL for instance: correct meterd.yaml. Never tried
    again."""
    UNFIT = "unfit"
    """A command was given a file or a target that it cannot use, and changed nothing: name
    another one."""
    ALREADY_RUNNING = "already_running"
    """Another meterd writes to the store: stop one of both (exit code 75)."""
    BUSY = "busy"
    """A tool has the store, and will end: the start of the daemon waits for it."""
    TOO_MUCH = "too_much"
    """More samples than one answer may have: ask for a shorter range or a longer step."""
    CONFLICT = "conflict"
    """Another transaction changed the same rows first, and nothing of this one is there: it is
    tried again at once."""
    UNREACHABLE = "unreachable"
    """The server does not answer: it is tried again with every commit; look at the network."""
    ABANDONED = "abandoned"
    """Whoever asked does not wait any more, so that the query ended early; nobody sees it."""
    BUG = "bug"
    """The thread that spools met a bug; the log has the stack. It goes on."""


class HookCode(StrEnum):
    """Codes of HookError; `retry` of the error says whether it is tried again."""

    HOOK = "hook"
    """A plug-in's hook named no cause of its own."""
    UNDELIVERED = "undelivered"
    """The receiver did not answer, or answered with an HTTP status that is no success."""


class MeterdError(Exception):
    """The root of meterd's own errors.

    Raised itself it has a GeneralCode; each class below has the codes of its own enum.
    """

    def __init__(self, text: str, *, code: StrEnum = GeneralCode.ERROR) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a file that a person wrote; line and column count from 1.

    `severity` is error, or warning for what can be loaded and is hardly what was meant.
    """

    file: str
    line: int
    column: int
    code: str
    what: str
    hint: str = ""
    severity: str = "error"

    def __str__(self) -> str:
        hint = f"; hint: {self.hint}" if self.hint else ""
        place = f"{self.file}:{self.line}:{self.column}"
        return f"{place}: {self.severity}[{self.code}]: {self.what}{hint}"


class ConfigError(MeterdError):
    """A person has to correct something that was written; never retried.

    `path`: the keys of the configuration that it is about, where the file is not at hand.
    """

    def __init__(self, problems: Iterable[Problem] | str, path: Iterable[str] = ()) -> None:
        self.problems = () if isinstance(problems, str) else tuple(problems)
        self.path = tuple(path)
        text = problems if isinstance(problems, str) else "\n".join(map(str, self.problems))
        super().__init__(text, code=GeneralCode.CONFIG)


class LinkError(MeterdError):
    """The way to the device failed: the link reopens, the bus backs off."""

    code: LinkCode | PluginCode

    def __init__(self, text: str, *, code: LinkCode | PluginCode = LinkCode.ERROR) -> None:
        super().__init__(text, code=code)


class ProtocolError(LinkError):
    """Bytes arrived that are no frame, or no answer to what was asked."""


class DeviceError(MeterdError):
    """The device answered, and said no; the link is fine."""

    code: DeviceCode | PluginCode

    def __init__(self, text: str, *, code: DeviceCode | PluginCode = DeviceCode.ERROR) -> None:
        super().__init__(text, code=code)


class Unsupported(DeviceError):  # noqa: N818 (it is a verdict, not a mishap)
    """The device will never answer this: stop asking."""


class StoreError(MeterdError):
    """The store could not keep or find samples; what was polled is kept and tried again."""

    code: StoreCode

    def __init__(self, text: str, *, code: StoreCode) -> None:
        super().__init__(text, code=code)


class HookError(MeterdError):
    """A hook could not deliver; `retry` says whether trying again can help."""

    code: HookCode

    def __init__(self, text: str, *, code: HookCode = HookCode.HOOK, retry: bool = True) -> None:
        super().__init__(text, code=code)
        self.retry = retry
