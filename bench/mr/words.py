#!/usr/bin/env python3
"""Word count and inverted index by the course lab's definitions, written without the engine.

    words.py wc FILES...       lines `word count`
    words.py index FILES...    lines `word n doc1,doc2,...`

A word is a maximal run of characters of Unicode's general category L; every byte that is not valid
UTF-8 separates words. Lines come in byte order. This is what the engine's output is compared with:
simple, slow, in memory.
"""

import sys
import unicodedata


def words(data):
    # surrogateescape turns each invalid byte into one character of category Cs.
    word = []
    for character in data.decode("utf-8", "surrogateescape"):
        if unicodedata.category(character).startswith("L"):
            word.append(character)
        elif word:
            yield "".join(word).encode()
            word.clear()
    if word:
        yield "".join(word).encode()


def main(what, *names):
    counts, documents = {}, {}
    for name in names:
        with open(name, "rb") as file:
            for word in words(file.read()):
                counts[word] = counts.get(word, 0) + 1
                documents.setdefault(word, set()).add(name.encode())
    lines = []
    for word in counts:
        if what == "wc":
            lines.append(b"%s %d\n" % (word, counts[word]))
        else:
            names = sorted(documents[word])
            lines.append(b"%s %d %s\n" % (word, len(names), b",".join(names)))
    sys.stdout.buffer.writelines(sorted(lines))


if __name__ == "__main__":
    main(*sys.argv[1:])
