"""MkDocs hook: `<x, theta>` in a docstring is an inner product, not a tag of raw HTML."""

from markdown.extensions import Extension


class AngleBrackets(Extension):
    """Leaves angle brackets inside of paragraphs as text."""

    def extendMarkdown(self, md):  # noqa: N802 (Python-Markdown's name)
        md.inlinePatterns.deregister("html")


def on_config(config):
    config.markdown_extensions.append(AngleBrackets())
    return config
