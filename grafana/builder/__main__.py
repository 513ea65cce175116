"""Write the files, and say which changed."""

import sys

from grafana.builder.files import ROOT, files


def main() -> None:
    for path, text in files().items():
        target = ROOT / path
        if target.is_file() and target.read_text() == text:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        sys.stdout.write(f"wrote {path}\n")


main()
