#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Man pages from the public headers, so that there is one text only.

    man.py OUTPUT_DIRECTORY VERSION HEADER...

Writes man3/NAME.3 for each documented function, macro and constant and man7/covey_NAME.7 for each header. As an
install script of Meson, OUTPUT_DIRECTORY is below the prefix that is installed to.
"""

import os
import re
import sys
import textwrap
from pathlib import Path

COMMENT = re.compile(r"/\*\*(.*?)\*/\s*((?:(?!/\*\*).)*)", re.S)
DECLARATION = re.compile(r"COVEY_API\s+(.*?;)", re.S)
MACRO = re.compile(r"^/\* ((?:covey|COVEY)_\w+)(\([^\n]*?\))? - ((?:(?!\*/).)*) \*/\n#define \1\b", re.S | re.M)
DEFINE = re.compile(r"^#define (\w+)(?:\((.*?)\))?((?:.*\\\n)*.*)", re.M)
CONSTANT = re.compile(r"^ {4}(COVEY_\w+) = (\w+), /\* (.*?) \*/", re.M)
ENUMERATOR = re.compile(r"^ {4}(COVEY_\w+)", re.M)
NOT_IN_CXX = re.compile(r"^#ifndef __cplusplus\n(.*?)^#endif", re.S | re.M)
EMPHASIS = re.compile(r"(?<![\w*])\*(\w[^*;()=]*\w|\w)\*(?![\w*])")
TYPE = re.compile(r"(?:typedef [^;{]*;|(?:struct|enum)(?: \w+)? {.*?^};)", re.S | re.M)


def plain(comment):
    """The text of a comment without its stars."""
    lines = [re.sub(r"^\s*\* ?", "", line).rstrip() for line in comment.strip().splitlines()]
    return "\n".join(lines).strip()


def escape(line):
    line = line.replace("\\", "\\e").replace("-", "\\-")
    line = re.sub(r"@(\w+)", r"\\fI\1\\fP", line)
    return "\\&" + line if line.startswith((".", "'")) else line


def prose(text):
    """Its lines, with *these words* emphasized, which may be on two of them."""
    return EMPHASIS.sub(r"\\fI\1\\fP", "\n".join(escape(line.strip()) for line in text.splitlines())).splitlines()


def body(text):
    """Paragraphs as they are; indented ones, and tables of words, keep their lines."""
    out = []
    for paragraph in re.split(r"\n\s*\n", text):
        lines = paragraph.splitlines()
        if any(line.startswith("  ") for line in lines):
            out += [".PP", ".nf", *(escape(line) for line in textwrap.dedent(paragraph).splitlines()), ".fi"]
        else:
            out += [".PP", *prose(paragraph)]
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
        arguments += [".TP", f".I {argument}", *prose(" ".join(what.split()))]
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


class Macros:
    """What the macros of a header stand for."""

    def __init__(self, source):
        self.definitions = {name: (parameters, " ".join(text.replace("\\\n", " ").split()))
                            for name, parameters, text in DEFINE.findall(source)}
        self.only_c = {name for part in NOT_IN_CXX.findall(source) for name, _, _ in DEFINE.findall(part)}

    def expansion(self, name, call):
        """With the words of the call; nothing where that would not be short."""
        parameters, text = self.definitions[name]
        names = parameters.replace("...", "__VA_ARGS__").split(", ") if parameters else []
        for parameter, argument in zip(names, call.strip("()").split(", ", len(names) - 1)):
            text = re.sub(rf"(?<!\w)\({parameter}\)|\b{parameter}\b", lambda _, a=argument: a, text)
        text = text.replace("*&", "")
        return "" if len(text) > 90 or re.search(r"\bCOVEY_\w+_\(", text) else text

    def called(self, name):
        """The function that it comes to."""
        text = self.definitions[name][1]
        for inner in re.findall(r"\bCOVEY_\w+_\b", text):
            text += self.definitions[inner][1]
        return re.findall(r"\b(covey_\w+)\(", text)[:1]


def macro_page(directory, version, header, types, name, call, what, stands_for, called, is_only_c):
    """What has no function of its own, only a comment at its definition."""
    text = " ".join(line.lstrip(" *") for line in what.splitlines()).rstrip(".")
    short = re.split(r"[:;.] ", text)[0]
    description = body(text[0].upper() + text[1:] + ".")
    if stands_for:
        description += [".PP", "It stands for", *verbatim("    " + stands_for)]
    if is_only_c:
        description += [".PP", escape("C++ does not have it.")]
    returned = [".PP", "As", *(f".BR {function} (3)." for function in called)] if called else []
    used = [line for type_name, _, _, definition in types if type_name in text for line in verbatim(definition)]
    others = called + sorted(set(re.findall(r"\b(covey_\w+)\(\)", text)))
    page(directory / "man3" / f"{name}.3", name.upper(), 3, version, f"{name} - {short}",
         [("SYNOPSIS", [".nf", f"#include <covey/{header}.h>", "", escape(f"{name}{call}"), ".fi"]),
          ("DESCRIPTION", description), ("RETURN VALUE", returned), ("TYPES", used),
          ("SEE ALSO", [*(f".BR {other} (3)," for other in others), f".BR covey_{header} (7)"])])
    return name, short


def macro_pages(directory, version, header, types, source):
    """Those of the macros, and of the constants."""
    macros = Macros(source)
    of_macros = [(name, macro_page(directory, version, header, types, name, call, what, macros.expansion(name, call),
                                   macros.called(name), name in macros.only_c))
                 for name, call, what in MACRO.findall(source)]
    of_enums = [macro_page(directory, version, header, types, name, "", what, value, [], False)
                for part in re.findall(r"\n\nenum {\n(.*?)^};", source, re.S | re.M)
                for name, value, what in CONSTANT.findall(part)]
    return ([listed for name, listed in of_macros if macros.definitions[name][0]],
            [listed for name, listed in of_macros if not macros.definitions[name][0]] + of_enums)


def alias_constants(directory, header, types):
    """Constants that the page of their header describes."""
    for _, _, _, definition in types:
        for name in ENUMERATOR.findall(definition) if definition.startswith("enum") else []:
            (directory / "man3" / f"{name}.3").write_text(f".so man7/covey_{header}.7\n")


def list_of(names):
    return [line for name, what in names for line in (".TP", f".BR {name} (3)", escape(what))]


def header_pages(directory, version, path):
    header = Path(path).stem
    source = Path(path).read_text()
    comments = COMMENT.findall(source)
    macros = macros_of(source)
    overview = plain(comments[0][0])
    types = list(types_of(comments[1:]))
    functions = [f for f in (function_page(directory, version, header, types, macros, plain(c), code)
                             for c, code in comments[1:]) if f]
    function_macros, constants = macro_pages(directory, version, header, types, source)
    alias_constants(directory, header, types)
    first, _, rest = overview.partition("\n")
    short = first.partition(" - ")[2]
    described = []
    for name, what, more, definition in types:
        fields, text = explain(more)
        described += [f'.SS "{name}"', escape(what), *fields, *text, *verbatim(definition)]
    page(directory / "man7" / f"covey_{header}.7", f"covey_{header}".upper(), 7, version,
         f"covey_{header} - {short}",
         [("DESCRIPTION", body(rest.strip("\n"))), ("FUNCTIONS", list_of(functions)),
          ("MACROS", list_of(function_macros)), ("CONSTANTS", list_of(constants)), ("TYPES", described)])
    return header, short, [(name, what) for name, what in function_macros + constants if name.isupper()]


def main():
    output, version, *headers = sys.argv[1:]
    directory = Path(os.environ.get("MESON_INSTALL_DESTDIR_PREFIX", ".")) / output
    parts = []
    general = []
    for header, short, names in (header_pages(directory, version, h) for h in headers):
        parts += [".TP", f".BR covey_{header} (7)", escape(short)]
        general += names
    page(directory / "man7" / "covey.7", "COVEY", 7, version, "covey - multiprocessing for C",
         [("DESCRIPTION", body("Processes, pools, queues, locks and shared memory, as one small library that no "
                               "killed process can wedge.")), ("PARTS", parts),
          ("MACROS AND CONSTANTS", list_of(general))])


if __name__ == "__main__":
    main()
