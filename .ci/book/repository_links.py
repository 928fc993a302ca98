"""A preprocessor of mdBook: a link of a page to a file outside of docs/ becomes a link to the repository.

Where the repository is browsed, such a link is relative. In the book the file does not exist. A link to a file that does
not exist in the repository either ends the build.
"""

import json
import os
import re
import sys

LINK = re.compile(r"(?P<before>\]\()(?P<target>[^)\s#:]*)(?P<rest>(?:#[^)\s]*)?\))")


def repository_link(page, root, repository, match):
    target = match["target"]
    if not target:
        return match[0]
    path = os.path.normpath(os.path.join("docs", os.path.dirname(page), target))
    if path.startswith("docs/"):
        # mdBook serves the README of a folder as its index.
        folder, name = os.path.split(target)
        return f"{match['before']}{os.path.join(folder, 'index.md')}{match['rest']}" if name == "README.md" else match[0]
    if not os.path.exists(os.path.join(root, path)):
        sys.exit(f"docs/{page}: {target} does not exist")
    kind = "tree" if os.path.isdir(os.path.join(root, path)) else "blob"
    return f"{match['before']}{repository}/{kind}/main/{path}{match['rest']}"


def chapters(items):
    for item in items:
        if "Chapter" in item:
            yield item["Chapter"]
            yield from chapters(item["Chapter"]["sub_items"])


def main():
    if sys.argv[1:2] == ["supports"]:
        return
    context, book = json.load(sys.stdin)
    repository = context["config"]["output"]["html"]["git-repository-url"]
    for chapter in chapters(book.get("items", book.get("sections", []))):
        page = chapter["source_path"]
        if page:
            chapter["content"] = LINK.sub(
                lambda match, page=page: repository_link(page, context["root"], repository, match), chapter["content"]
            )
    json.dump(book, sys.stdout)


main()
