"""MkDocs hook: the notebooks are pages of the site, although their folder is not in `docs/`."""

from pathlib import Path

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File


@event_priority(100)  # before mkdocs-jupyter, which takes the notebooks that are among the files
def on_files(files, config):
    root = Path(config.docs_dir).parent
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        name = str(path.relative_to(root))
        files.append(File(name, str(root), config.site_dir, config.use_directory_urls))
    return files
