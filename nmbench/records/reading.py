"""The one reader of records: bytes -> Record, lifted to the current version. Broken sections are left out and named.

parse       all of it
headline    what a line about the cell needs, in a fifth of the time
"""

import json
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError, create_model
from pydantic_core import ErrorDetails

from nmbench._util.settings import plain
from nmbench.records.schema import SCHEMA_VERSION, Record, UnreadableRecord
from nmbench.records.sections import Section

#: without these there is no record; any other key may be left out
_IDENTITY = frozenset({"schema_version", "cell", "cell_id", "attempt", "status"})
_TOLD: dict[str, Any] = {
    key: (field.annotation, field)
    for key, field in Record.model_fields.items()
    if key in _IDENTITY | {"metric_info", "metrics", "error"}
}
_HEADLINE: Any = create_model("_HEADLINE", __base__=Section, **_TOLD)
_HEADLINE.model_config["extra"] = "ignore"
_HEADLINE.model_rebuild(force=True)
#: version -> function that lifts a record of that version to the next one
_MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}


def parse(data: bytes, attempt: int = 1) -> Record:
    """The record in `data`. A section that is not what it should be is left out and named in `Record.problems`.

    attempt: number of the attempt, for a record that does not say it. Raises UnreadableRecord where there is no record,
    or one without an identity, or of a newer version.
    """
    try:
        return Record.model_validate_json(data)
    except ValidationError:
        pass
    try:
        raw = {key: value for key, value in _migrated(_json(data)).items() if value is not None}
        return _lenient({"attempt": attempt} | raw)
    except RecursionError:
        raise UnreadableRecord("nested too deeply to be a record") from None


def headline(data: bytes, attempt: int = 1) -> Record:
    """Identity, status, metrics and error of the record in `data`; the rest looks absent. Raises as `parse`."""
    try:
        found = _HEADLINE.model_validate_json(data)
    except ValidationError:  # of an older version, or something in it is not what it should be
        return parse(data, attempt)
    return Record.model_validate({key: getattr(found, key) for key in found.model_fields_set})


def _json(data: bytes) -> Any:
    if not data.strip(b"\0 \n\r\t"):
        raise UnreadableRecord("the file is empty: its writer was stopped, or the disk was full")
    try:
        return json.loads(data.decode())
    except UnicodeDecodeError:
        raise UnreadableRecord("not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise UnreadableRecord(f"broken JSON at line {error.lineno}: {error.msg}") from error
    except ValueError as error:  # Python reads no integer of thousands of digits
        raise UnreadableRecord(f"a number in it is too long: {error}") from error


def _migrated(record: Any) -> dict[str, Any]:
    """Lift `record` to the current version, step by step."""
    if not isinstance(record, dict) or type(record.get("schema_version")) is not int:
        raise UnreadableRecord("no schema_version: this is not a record")
    while (version := record["schema_version"]) < SCHEMA_VERSION:
        if version not in _MIGRATIONS:
            raise UnreadableRecord(f"schema version {version} has no migration")
        try:
            record = _MIGRATIONS[version](record)
        except Exception as error:  # a record that it does not expect must not stop the others
            raise UnreadableRecord(f"the migration failed: {type(error).__name__}: {error}") from error
    if version > SCHEMA_VERSION:
        raise UnreadableRecord(f"schema version {version} is newer than this nmbench reads ({SCHEMA_VERSION})")
    lifted: dict[str, Any] = record
    return lifted


def _lenient(raw: dict[str, Any]) -> Record:
    wrong = {key: f"{key}: it holds half a character" for key, value in raw.items() if not _is_unicode([key, value])}
    try:
        return _without(raw, wrong)
    except ValidationError as error:
        for part in error.errors(include_url=False, include_input=False):
            wrong.setdefault(str(part["loc"][0]), _words(part))
    return _without(raw, wrong)


def _without(raw: dict[str, Any], wrong: dict[str, str]) -> Record:
    """The record without the sections that are `wrong`; key -> reason."""
    if reason := next((wrong[key] for key in wrong if key in _IDENTITY), None):
        raise UnreadableRecord(reason)
    # 2.0 is as good a number of steps as 2
    record = Record.model_validate({key: plain(value) for key, value in raw.items() if key not in wrong})
    record._broken = {key: (reason, raw.get(key)) for key, reason in wrong.items()}
    return record


def _is_unicode(value: Any) -> bool:
    """Can it be written? JSON may escape one half of a character that takes two."""
    try:
        return bool(json.dumps(value, ensure_ascii=False).encode())
    except UnicodeEncodeError:
        return False


def _words(error: ErrorDetails) -> str:
    """One line: where it is, and what is wrong with it."""
    where = ".".join(map(str, error["loc"]))
    return " ".join(f"{where}: {error['msg'].removeprefix('Value error, ')}".split())[:200]
