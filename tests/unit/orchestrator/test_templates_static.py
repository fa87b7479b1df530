"""What no template and no script of ours may contain, because the content security policy, the reader or the owner would suffer."""

import hashlib
import re
from pathlib import Path

import pytest

from orchestrator.ports import RefusalReason
from orchestrator.web import pages_render, pages_words

WEB = Path(pages_render.__file__).parent
TEMPLATES = sorted((WEB / "templates").rglob("*.html"))
SCRIPTS = sorted((WEB / "static").glob("*.js"))
FORBIDDEN = (
    r"\bstyle\s*=", r"\son[a-z]+\s*=", r"hx-on", r"\bjs:", r"javascript:", r"\|\s*safe", r"https?://", r"<script(?![^>]*\bsrc=)", r"<style",
    r"hx-trigger=\"[^\"]*\[", r"autoescape false", r"hx-boost", r"hx-vals",
)  # fmt: skip
VENDOR = WEB / "static" / "vendor"


def _name(path: Path) -> str:
    return path.relative_to(WEB).as_posix()


@pytest.mark.parametrize("path", TEMPLATES, ids=_name)
def test_a_template_has_nothing_that_the_policy_forbids(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert [pattern for pattern in FORBIDDEN if re.search(pattern, text)] == []


@pytest.mark.parametrize("path", TEMPLATES, ids=_name)
def test_every_form_that_changes_something_carries_its_tokens(path: Path) -> None:
    forms = re.findall(r"<form\b.*?</form>", path.read_text(encoding="utf-8"), re.DOTALL)
    posting = [form for form in forms if 'method="post"' in form]
    assert len(posting) == len(forms)
    assert all("{{ guard() }}" in form for form in posting)


@pytest.mark.parametrize("path", TEMPLATES, ids=_name)
def test_every_time_is_printed_by_a_filter(path: Path) -> None:
    times = re.findall(r"<time\b.*?</time>", path.read_text(encoding="utf-8"), re.DOTALL)
    assert all('datetime="{{' in found and "|iso }}" in found for found in times)


@pytest.mark.parametrize("path", SCRIPTS, ids=_name)
def test_a_script_of_ours_writes_text_and_never_html(path: Path) -> None:
    assert not re.search(r"innerHTML|outerHTML\s*=|insertAdjacentHTML|document\.write|\beval\(|new Function", path.read_text())


def test_the_vendored_files_are_those_whose_hashes_are_listed() -> None:
    listed = dict(line.split()[::-1] for line in (VENDOR / "SHA256SUMS.txt").read_text().splitlines())
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.glob("*.js")} == listed
    assert len(list(VENDOR.glob("*.LICENSE.txt"))) == len(listed)


def test_every_refusal_has_words() -> None:
    assert {str(reason) for reason in RefusalReason} == set(pages_words.REFUSALS)


def test_a_notice_that_nobody_wrote_is_not_shown() -> None:
    assert pages_render.notice_of("<b>send your password</b>") is None
    assert pages_render.notice_of(None) is None
