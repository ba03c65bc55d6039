#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Man pages from the public headers, so that there is one text only.

    man.py OUTPUT_DIRECTORY VERSION HEADER...

Writes man3/FUNCTION.3 for each documented function and macro and man7/covey_NAME.7 for each header. As an
install script of Meson, OUTPUT_DIRECTORY is below the prefix that is installed to.
"""

import os
import re
import sys
import textwrap
from pathlib import Path

COMMENT = re.compile(r"/\*\*(.*?)\*/\s*((?:(?!/\*\*).)*)", re.S)
DECLARATION = re.compile(r"COVEY_API\s+(.*?;)", re.S)
MACRO = re.compile(r"^/\* ((?:covey|COVEY)_\w+)(\(.*?\)) - (.*?) \*/\n#define \1\(", re.S | re.M)
TYPE = re.compile(r"(?:typedef [^;{]*;|(?:struct|enum)(?: \w+)? {.*?^};)", re.S | re.M)


def plain(comment):
    """The text of a comment without its stars."""
    lines = [re.sub(r"^\s*\* ?", "", line).rstrip() for line in comment.strip().splitlines()]
    return "\n".join(lines).strip()


def escape(line):
    line = line.replace("\\", "\\e").replace("-", "\\-")
    line = re.sub(r"@(\w+)", r"\\fI\1\\fP", line)
    return "\\&" + line if line.startswith((".", "'")) else line


def body(text):
    """Paragraphs as they are; indented ones, and tables of words, keep their lines."""
    out = []
    for paragraph in re.split(r"\n\s*\n", text):
        lines = paragraph.splitlines()
        if any(line.startswith("  ") for line in lines):
            out += [".PP", ".nf", *(escape(line) for line in textwrap.dedent(paragraph).splitlines()), ".fi"]
        else:
            out += [".PP", *(escape(line.strip()) for line in lines)]
    return out


def page(path, title, section, version, name, parts):
    lines = [f'.TH "{title}" {section} "" "covey {version}" "covey"', ".SH NAME", escape(name)]
    for heading, content in parts:
        if content:
            lines += [f'.SH "{heading}"', *content]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def prototypes(code):
    return [" ".join(d.split()).replace("( ", "(") for d in DECLARATION.findall(code)]


def macros_of(source):
    """How the macros are called: a comment above each says it."""
    return {name: call for call, name in
            re.findall(r"^/\* (\w+\(.*\)) \*/\n#define (covey_\w+)\(", source, re.M)}


def verbatim(text):
    return [".PP", ".nf", *(escape(line) for line in text.splitlines()), ".fi"]


def types_of(comments):
    """The documented structs, enums and function types of a header: name, what, more, definition."""
    for comment, code in comments:
        definition = TYPE.match(code.strip())
        summary, _, rest = plain(comment).partition("\n")
        if definition and " - " in summary and "()" not in summary:
            name, _, what = summary.partition(" - ")
            yield name, what, rest, definition.group()


ARGUMENT = re.compile(r"^@(\w+): (.*?)(?=^@|\n\n|\Z)", re.S | re.M)
RETURNS = re.compile(r"^Returns .*?(?=\n\n|\Z)", re.S | re.M)


def explain(text):
    """The lines for the arguments that a comment lists, and for the rest of it."""
    arguments = []
    for argument, what in ARGUMENT.findall(text + "\n"):
        arguments += [".TP", f".I {argument}", escape(" ".join(what.split()))]
    rest = ARGUMENT.sub("", text + "\n").strip("\n")
    return arguments, body(rest) if rest else []


def function_page(directory, version, header, types, macros, text, code):
    summary, _, rest = text.partition("\n")
    match = re.match(r"(covey_\w+)\(\) - (.*)", summary)
    if not match:
        return None
    name, short = match.groups()
    returned = [line for paragraph in RETURNS.findall(rest) for line in body(paragraph)]
    arguments, description = explain(RETURNS.sub("", rest))
    calls = [f"int {macros[name]};"] if name in macros else []
    synopsis = [".nf", f"#include <covey/{header}.h>", ""] + [escape(p) for p in calls + prototypes(code)] + [".fi"]
    used = [line for type_name, _, _, definition in types
            if any(re.search(rf"\b{type_name}\b", p) for p in prototypes(code)) for line in verbatim(definition)]
    page(directory / "man3" / f"{name}.3", name.upper(), 3, version, f"{name} - {short}",
         [("SYNOPSIS", synopsis), ("ARGUMENTS", arguments), ("DESCRIPTION", description),
          ("RETURN VALUE", returned), ("TYPES", used), ("SEE ALSO", [f".BR covey_{header} (7),", ".BR covey_error (3)"])])
    for alias in {n for p in prototypes(code) for n in re.findall(r"\b(covey_\w+)\(", p)} - {name}:
        (directory / "man3" / f"{alias}.3").write_text(f".so man3/{name}.3\n")
    return name, short


def macro_page(directory, version, header, name, arguments, what):
    """A macro that has no function of its own, only a line above its definition."""
    short = " ".join(line.lstrip(" *") for line in what.splitlines())
    synopsis = [".nf", f"#include <covey/{header}.h>", "", escape(f"{name}{arguments}"), ".fi"]
    page(directory / "man3" / f"{name}.3", name.upper(), 3, version, f"{name} - {short}",
         [("SYNOPSIS", synopsis), ("DESCRIPTION", body("A macro.")),
          ("SEE ALSO", [f".BR covey_{header} (7)"])])
    return name, short


def header_pages(directory, version, path):
    header = Path(path).stem
    source = Path(path).read_text()
    comments = COMMENT.findall(source)
    macros = macros_of(source)
    overview = plain(comments[0][0])
    types = list(types_of(comments[1:]))
    functions = [f for f in (function_page(directory, version, header, types, macros, plain(c), code)
                             for c, code in comments[1:]) if f]
    functions += [macro_page(directory, version, header, *m) for m in MACRO.findall(source)]
    first, _, rest = overview.partition("\n")
    short = first.partition(" - ")[2]
    listed = []
    for name, what in functions:
        listed += [".TP", f".BR {name} (3)", escape(what)]
    described = []
    for name, what, more, definition in types:
        fields, text = explain(more)
        described += [f'.SS "{name}"', escape(what), *fields, *text, *verbatim(definition)]
    page(directory / "man7" / f"covey_{header}.7", f"covey_{header}".upper(), 7, version,
         f"covey_{header} - {short}",
         [("DESCRIPTION", body(rest.strip("\n"))), ("FUNCTIONS", listed), ("TYPES", described)])
    return header, short


def main():
    output, version, *headers = sys.argv[1:]
    directory = Path(os.environ.get("MESON_INSTALL_DESTDIR_PREFIX", ".")) / output
    parts = []
    for header, short in (header_pages(directory, version, h) for h in headers):
        parts += [".TP", f".BR covey_{header} (7)", escape(short)]
    page(directory / "man7" / "covey.7", "COVEY", 7, version, "covey - multiprocessing for C",
         [("DESCRIPTION", body("Processes, pools, queues, locks and shared memory, as one small library that no "
                               "killed process can wedge.")), ("PARTS", parts)])


if __name__ == "__main__":
    main()
