"""Codes of configuration errors (C0xx) and warnings (C1xx), and their meanings."""

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """Codes of errors, which refuse the file. Stable: a code is never given a second meaning."""

    UNREADABLE = "C001"
    NO_TEXT = "C002"
    TOO_LARGE = "C003"
    SYNTAX = "C004"
    DUPLICATE = "C005"
    EMPTY = "C006"
    SHAPE = "C007"
    FEATURE = "C008"
    VARIABLE = "C009"
    FILE_KEY = "C010"
    FILE_KEY_MODE = "C011"
    FILE_KEY_TWICE = "C012"
    UNKNOWN_KEY = "C020"
    MISSING = "C021"
    TYPE = "C022"
    RANGE = "C023"
    CHOICE = "C024"
    DURATION = "C025"
    VALUE = "C026"
    NAME = "C030"
    TIMEZONE = "C031"
    LABEL = "C032"
    LINK = "C033"
    # C034 is retired: an early version refused links it did not support yet.
    STORE = "C035"
    LISTEN = "C036"
    OPEN_LISTEN = "C037"
    HOOK = "C038"
    HEADER = "C039"
    UNKNOWN_DRIVER = "C040"
    UNKNOWN_LINK = "C041"
    UNKNOWN_DEVICE = "C042"
    UNKNOWN_HOOK = "C043"
    UNKNOWN_QUANTITY = "C044"
    CONDITION = "C045"
    CLEAR = "C046"
    NO_DEVICES = "C047"
    TLS = "C050"
    ACCOUNT = "C051"
    BASE_PATH = "C052"
    PROXY = "C053"
    ORIGIN = "C054"
    STORE_DRIVER = "C055"
    TARIFF_TIME = "C060"
    TARIFF_DAY = "C061"
    PRICE = "C062"
    PRICE_ORDER = "C063"
    RATE = "C064"


MEANING: dict[Code, str] = {
    Code.UNREADABLE: "The file cannot be read.",
    Code.NO_TEXT: "The file is not UTF-8 text.",
    Code.TOO_LARGE: "The file is larger, deeper or richer in values than any configuration.",
    Code.SYNTAX: "The file is not YAML.",
    Code.DUPLICATE: "A key stands twice in one mapping.",
    Code.EMPTY: "The file says nothing.",
    Code.SHAPE: "A mapping, a list or a single value stands where another of the three belongs.",
    Code.FEATURE: "YAML knows this, a configuration does not need it: tags, several documents.",
    Code.VARIABLE: "A ${NAME} is not set in the environment, or is badly written.",
    Code.FILE_KEY: "The file that a *_file key names cannot be used.",
    Code.FILE_KEY_MODE: "The file that a *_file key names can be read by other users.",
    Code.FILE_KEY_TWICE: "A value is given both itself and by its *_file key.",
    Code.UNKNOWN_KEY: "No such key here.",
    Code.MISSING: "A key that is needed is not there.",
    Code.TYPE: "The value is of the wrong kind.",
    Code.RANGE: "The value is too small, too large, too short or too long.",
    Code.CHOICE: "The value is not one of those allowed.",
    Code.DURATION: "The value is no duration such as 500ms, 10s, 5m, 1h or 400d.",
    Code.VALUE: "The value is of the right kind, and still cannot be right.",
    Code.NAME: "A device, link, rule or hook has a name that cannot be used.",
    Code.TIMEZONE: "There is no such time zone.",
    Code.LABEL: "A label's name or value cannot be used.",
    Code.LINK: "The link's URL is wrong.",
    Code.STORE: "The store's URL is wrong.",
    Code.LISTEN: "The listen address is no HOST:PORT.",
    Code.OPEN_LISTEN: "What others could reach would have no login, or no TLS.",
    Code.HOOK: "The hook's URL is wrong.",
    Code.HEADER: "A header of a hook cannot be sent.",
    Code.UNKNOWN_DRIVER: "There is no driver of this name.",
    Code.UNKNOWN_LINK: "A device names a link that is not there.",
    Code.UNKNOWN_DEVICE: "A rule names a device that is not there.",
    Code.UNKNOWN_HOOK: "A rule names a hook that is not there.",
    Code.UNKNOWN_QUANTITY: "A rule names a quantity that is not in the catalogue.",
    Code.CONDITION: "A rule needs exactly one of equals, above and below.",
    Code.CLEAR: "A rule's clear_below or clear_above does not fit its condition.",
    Code.NO_DEVICES: "There is nothing to poll.",
    Code.TLS: "The files of api.tls cannot be used by a server.",
    Code.ACCOUNT: "A user's name, password or hash cannot be used.",
    Code.BASE_PATH: "api.base_path is no path such as /meterd.",
    Code.PROXY: "A trusted proxy is no address or network.",
    Code.ORIGIN: "An origin of api.cors is none such as https://dash.example.",
    Code.STORE_DRIVER: "The store is on a server whose driver package is not installed.",
    Code.TARIFF_TIME: "A tariff's times of day are no HH:MM-HH:MM, or are on no quarter hours.",
    Code.TARIFF_DAY: "A tariff names a day, a month, a season or a date that does not exist.",
    Code.PRICE: "A price is no decimal number, is too large, or has too many decimal places.",
    Code.PRICE_ORDER: "A tariff's prices do not follow one another in time.",
    Code.RATE: "A tariff's rule, or its else, names a rate that has no price.",
}


class WarningCode(StrEnum):
    """Codes of warnings: the file loads, but is hardly what was meant. As stable as Code."""

    SAME_METER = "C101"
    BUS_FULL = "C102"
    SAME_PORT = "C103"
    UNUSED_LINK = "C104"
    SLOW_FASTER = "C105"
    COMMAND = "C106"
    PROXIED = "C107"
    RENAMED = "C108"
    SHORT_TIMEOUT = "C109"
    SILENT_RULE = "C110"
    UNUSED_HOOK = "C111"
    NO_SUCH_VALUE = "C112"
    NEVER_TRUE = "C113"
    ALWAYS_TRUE = "C114"
    NEVER_CLEAR = "C115"
    RULE_TWICE = "C116"
    TEMPLATE = "C117"
    DISABLED = "C118"
    SILENCE = "C119"


WARNING_MEANING: dict[WarningCode, str] = {
    WarningCode.SAME_METER: "Two devices are the same meter.",
    WarningCode.BUS_FULL: "A bus cannot keep the intervals, as far as its speed is known.",
    WarningCode.SAME_PORT: "Two links lead to the same port.",
    WarningCode.UNUSED_LINK: "No device is on this link.",
    WarningCode.SLOW_FASTER: "slow is shorter than the interval, and means nothing.",
    WarningCode.COMMAND: "A device cannot do this command.",
    WarningCode.PROXIED: "The proxy cannot serve this device.",
    WarningCode.RENAMED: "A device was renamed, and its former name stands here.",
    WarningCode.SHORT_TIMEOUT: "A device's timeout is shorter than its link's, and means nothing.",
    WarningCode.SILENT_RULE: "A rule tells nobody.",
    WarningCode.UNUSED_HOOK: "No rule tells this hook.",
    WarningCode.NO_SUCH_VALUE: "A rule watches what no device of it delivers.",
    WarningCode.NEVER_TRUE: "A rule's condition can never be true.",
    WarningCode.ALWAYS_TRUE: "A rule's condition is always true.",
    WarningCode.NEVER_CLEAR: "An alert of this rule would never end.",
    WarningCode.RULE_TWICE: "Two rules say the same.",
    WarningCode.TEMPLATE: "A rule's text has placeholders, and nothing replaces them.",
    WarningCode.DISABLED: "A rule or the proxy names a device that is not polled.",
    WarningCode.SILENCE: "A silence is for a rule that does not exist.",
}


@dataclass(frozen=True, slots=True)
class ValueFlaw:
    """What is wrong with one value, without its position in the file.

    `what` reads "must be …", and the report appends the value; a "{}" in it is replaced by the
    value instead, and with `show` off the value is not shown at all.
    """

    code: Code
    what: str
    hint: str = ""
    show: bool = True

    def error(self) -> "ValueFlawError":
        """The exception for a validator to raise; pydantic passes it on in the error's context."""
        return ValueFlawError(self)


class ValueFlawError(ValueError):
    """Raised by validators of values; `flaw` has the code and the hint."""

    def __init__(self, flaw: ValueFlaw) -> None:
        super().__init__(flaw.what.replace("{}", "this value"))
        self.flaw = flaw
