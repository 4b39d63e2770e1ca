"""A request as the registry's routes see it: subject, version, flags and body, with Confluent's refusals."""

from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from millstream.local.http import Request
from millstream.local.registry.errors import Refusal, invalid_subject, invalid_version, not_served
from millstream.local.registry.offers import Offer
from millstream.local.registry.records import Metadata, Reference

MEDIA_TYPES = (
    "application/vnd.schemaregistry.v1+json",
    "application/vnd.schemaregistry+json",
    "application/json",
)
_CONSUMED = {*MEDIA_TYPES, "application/octet-stream"}
_DEFAULT_CONTEXT = ":.:"
_RESERVED_SUBJECTS = ("__GLOBAL", "__EMPTY")
Form = TypeVar("Form", bound=msgspec.Struct)
T = TypeVar("T")


class OfferBody(msgspec.Struct):
    """The body of every request that carries a schema."""

    schema: str | None = None
    schemaType: str | None = None  # noqa: N815 (Confluent's names, all of them)
    references: list[Reference] | None = None
    metadata: Metadata | None = None
    id: int | None = None
    version: int | None = None
    ruleSet: Any = None  # noqa: N815
    schemaTagsToAdd: Any = None  # noqa: N815
    schemaTagsToRemove: Any = None  # noqa: N815
    propagateSchemaTags: Any = None  # noqa: N815


class Call:
    """One request, with the parts of its path that a route has named in `params`."""

    def __init__(self, request: Request) -> None:
        split = urlsplit(request.target)
        self.request = request
        self.segments = [unquote(segment) for segment in split.path.strip("/").split("/")]
        self._pairs = parse_qsl(split.query, keep_blank_values=True)
        self.query: Mapping[str, str] = dict(self._pairs)
        self.params: Mapping[str, str] = {}
        if self.segments[0] == "contexts" and len(self.segments) > 1:
            if self.segments[1] not in (".", _DEFAULT_CONTEXT):
                invalid_subject(self.segments[1], " Contexts other than the default, '.', are not served here.")
            self.segments = self.segments[2:] or [""]

    def all_of(self, name: str) -> list[str]:
        """Every value that the query gives for `name`."""
        return [value for key, value in self._pairs if key == name]

    def flag(self, name: str) -> bool:
        return self.query.get(name, "").lower() == "true"

    def number(self, name: str) -> int:
        """A number in the path; Confluent's registry knows no such page when it is none."""
        text = self.params[name]
        if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < 2**31):
            raise Refusal(404, "HTTP 404 Not Found")
        return int(text)

    def version(self) -> int | None:
        """The version in the path; None for the latest. Raises `Refusal` 42202."""
        text = self.params["version"].strip()
        if text.lower() == "latest" or text == "-1":
            return None
        if not (text.isascii() and text.isdigit() and len(text) <= 10 and 1 <= int(text) < 2**31):
            invalid_version(text)
        return int(text)

    def subject(self) -> str:
        """The subject in the path, without the default context. Raises `Refusal` 42208."""
        return plain_subject(self.params["subject"])

    def scope(self) -> str | None:
        """What a setting is for: a subject, or None for all. Raises `Refusal` 42208."""
        named = self.params.get("subject")
        if named is None or named == _DEFAULT_CONTEXT:
            return None
        return new_subject(plain_subject(named))

    def prefix(self) -> str | None:
        """The prefix that subjects shall have; None if that is a context that is not here."""
        prefix = self.query.get("subjectPrefix", "")
        for context in (_DEFAULT_CONTEXT, ":*:"):
            if prefix.startswith(context):
                return prefix.removeprefix(context)
        return None if prefix.startswith(":.") else prefix

    def page(self, items: list[T], most: int = 2**31) -> list[T]:
        """The part of `items` that `offset` and `limit` ask for, `most` of them."""
        try:
            offset, limit = int(self.query.get("offset", "0")), int(self.query.get("limit", "-1"))
        except ValueError:
            raise Refusal(404, "HTTP 404 Not Found") from None
        if not 0 < limit <= most:
            limit = most
        return items[max(offset, 0) :][:limit]

    def body(self, form: type[Form]) -> Form:
        """The body as JSON of this form. Raises `Refusal` 400, 415 or 422."""
        media_type = self.request.headers.get("content-type", "application/octet-stream").partition(";")[0].strip()
        if media_type.lower() not in _CONSUMED:
            raise Refusal(415, "HTTP 415 Unsupported Media Type")
        if not self.request.body.strip():
            raise Refusal(422, "The request body must not be empty")
        try:
            return msgspec.json.decode(self.request.body, type=form, strict=False)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refusal(400, f"The request body is not valid: {error}") from None
        except RecursionError:
            raise Refusal(400, "The request body is not valid: it is nested too deeply") from None

    def offer(self) -> tuple[Offer, OfferBody]:
        """The schema in the body. Raises `Refusal` also for what would be taken in and then have no effect."""
        body = self.body(OfferBody)
        if body.ruleSet is not None:
            not_served("ruleSet", 42210)
        for tags in ("schemaTagsToAdd", "schemaTagsToRemove", "propagateSchemaTags"):
            if getattr(body, tags):
                not_served(tags)
        references = tuple(Reference(of.name, plain_subject(of.subject), of.version) for of in body.references or ())
        return Offer(body.schema or "", body.schemaType or "AVRO", references, body.metadata), body

    def media_type(self) -> str:
        """What the answer is to be called. Raises `Refusal` 406."""
        accepted = self.request.headers.get("accept", "*/*")
        ranges = {part.partition(";")[0].strip().lower() for part in accepted.split(",")}
        for offered in MEDIA_TYPES:
            if ranges & {offered, "*/*", "application/*", ""}:
                return offered
        raise Refusal(406, "HTTP 406 Not Acceptable")


def plain_subject(subject: str) -> str:
    """`subject` without the default context. Raises `Refusal` 42208 for any other context."""
    plain = subject.removeprefix(_DEFAULT_CONTEXT)
    if plain.startswith((":.", ":*:")):
        invalid_subject(subject, " Contexts other than the default, '.', are not served here.")
    return plain


def new_subject(subject: str) -> str:
    """`subject`, if something may be called so. Raises `Refusal` 42208."""
    if subject in _RESERVED_SUBJECTS or any(ord(c) < 32 or 127 <= ord(c) < 160 for c in subject):
        invalid_subject(subject)
    return subject
