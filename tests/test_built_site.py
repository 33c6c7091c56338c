"""The check of the built site objects to what it is there to find."""

import pytest

from tests.built_site import API_PAGES, check
from tests.pages import ROOT, entries


def site(folder, extra=""):
    """A site of nothing but the entries of the API pages, with ``extra`` in one of them."""
    (folder / "index.html").write_text(f'<link href="style.css"><p>hello</p>{extra}')
    for name in API_PAGES:
        (folder / name).mkdir()
        anchors = (f'<h3 id="{entry}"></h3>' for entry in entries(ROOT / f"docs/{name}.md"))
        (folder / name / "index.html").write_text("".join(anchors) + extra)
    return folder


def test_a_sound_site_passes(tmp_path):
    check(
        site(tmp_path, "<code>>>> 1 ::: 2</code><a href='https://arxiv.org'>a link is no fetch</a>")
    )


@pytest.mark.parametrize(
    "extra",
    [
        '<script src="https://cdn.example/a.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/a.css">',
        "<p>>>> 1 + 1</p>",
        "<p>::: dpfunc.Clip</p>",
        "<p>\nGuarantee: none</p>",
    ],
)
def test_a_fault_is_found(tmp_path, extra):
    with pytest.raises(AssertionError, match="html"):
        check(site(tmp_path, extra))


def test_a_missing_entry_is_found(tmp_path):
    page = site(tmp_path) / "api/index.html"
    page.write_text(page.read_text().replace('id="dpfunc.Clip"', ""))
    with pytest.raises(AssertionError, match=r"no entry for \['dpfunc.Clip'\]"):
        check(tmp_path)
