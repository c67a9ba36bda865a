"""From the body of a POST to a checked model, or to a refusal that says what is expected."""

import json
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from meterd.api.answer import JSON, ApiCall
from meterd.api.problem import ApiRefusal, ParameterError, quote
from meterd.api.problem_code import ProblemCode
from meterd.model.text import has_controls


class Body(BaseModel):
    """Base of all bodies: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _one_text(text: str) -> str:
    if has_controls(text, "\n\t"):
        raise ValueError("holds control characters, such as escape sequences: take them out")
    return text


PlainText = Annotated[str, AfterValidator(_one_text)]
"""What others will read in a terminal, a log or a page."""

B = TypeVar("B", bound=Body)


def read(model: type[B], call: ApiCall) -> B:
    """The body as its model, which is empty for an empty one. Raises ApiRefusal: 400, 415
    or 422.
    """
    media = call.media.partition(";")[0].strip().lower()
    if call.body and media != JSON:
        detail = f"the body is {quote(media)}, and JSON is expected"
        raise ApiRefusal(415, ProblemCode.BAD_MEDIA, detail, hint=f"send Content-Type: {JSON}")
    try:
        return model.model_validate_json(call.body or b"{}", context={"now": call.now})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    names = sorted(model.model_fields)
    hint = f"it is a JSON object with {', '.join(names)}"
    if first["type"] == "json_invalid":
        raise ApiRefusal(
            400, ProblemCode.BAD_JSON, f"the body is no JSON: {first['msg']}", hint=hint
        )
    name = ".".join(map(str, first["loc"]))
    what = "is not known here" if first["type"] == "extra_forbidden" else first["msg"]
    what = what.removeprefix("Value error, ")
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ParameterError):
        what = f"{quote(json.dumps(first['input'], ensure_ascii=False))} {cause}"
        hint = cause.hint or hint
    code = ProblemCode.BAD_BODY
    detail = f"{quote(name)}: {what}" if name else f"the body: {what}"
    raise ApiRefusal(422, code, detail, hint=hint, allowed=names, parameter=name[:80])
