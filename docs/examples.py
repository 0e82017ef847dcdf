"""Griffe extension: `Example:` and `Example (what it shows):` in a docstring are code, with prompts."""

import re
import textwrap

import griffe

EXAMPLE = re.compile(r"^(Example[^\n]*:)\n((?:[ ]{4}[^\n]*\n|\n)+)", re.MULTILINE)


class Examples(griffe.Extension):
    """Makes a fenced block of each example."""

    def on_object(self, *, obj, **kwargs):
        if obj.docstring is not None:
            obj.docstring.value = EXAMPLE.sub(fenced, obj.docstring.value + "\n")


def fenced(match):
    code = textwrap.dedent(match[2]).strip("\n")
    return f"*{match[1]}*\n\n```pycon\n{code}\n```\n\n"
