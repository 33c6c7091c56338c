"""The README is the site's first page: a hook of mkdocs that hands it over, links adjusted."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

LINK = re.compile(r"\[([^]]+)\]\((?!\w+:)([^)]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add ``index.md``, made of the README, to the pages."""
    readme = Path(config.config_file_path).with_name("README.md").read_text()
    page = "---\nhide: [navigation]\n---\n" + LINK.sub(as_on_the_site, readme)
    files.append(File.generated(config, "index.md", content=page))
    return files


def as_on_the_site(link: re.Match[str]) -> str:
    """The link as a page of the site has it; one that leaves ``docs/`` becomes its file's name."""
    text, target = link.groups()
    if target.startswith("docs/"):
        page = target.removeprefix("docs/")
        return f"[{text.removeprefix('docs/')}]({page})"
    return f"{text} (`{target}`)"
