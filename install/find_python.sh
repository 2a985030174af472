#!/bin/sh
# Prints the first Python that sc3d can be installed with; if there is none, what is wrong with each and how to get one.
# Usage: install/find_python.sh [the only one to look at]
here=$(dirname "$0")
named=$1
wrong=""
[ -n "$named" ] || set -- python3 python3.14 python3.13 python3.12 python3.11 python3.10

fits() {
  # Names that lead nowhere, such as those of a version manager, are passed over; Pythons before 3.6 cannot read the file.
  "$1" -c "" >/dev/null 2>&1 || return 1
  reason=$("$1" "$here/fits.py" 2>/dev/null) && return 0
  wrong="$wrong
  $1 ${reason:-is too old}"
  return 1
}

for name; do
  python=$(command -v "$name") || continue
  if fits "$python"; then
    echo "$python"
    exit 0
  fi
done

# A Python of uv's own lies in the home folder and changes nothing else.
if [ -z "$named" ] && command -v uv >/dev/null; then
  echo "no Python here fits; uv fetches 3.12" >&2
  export UV_PYTHON_PREFERENCE=only-managed
  if uv python install --quiet 3.12 >&2 && python=$(uv python find 3.12) && fits "$python"; then
    echo "$python"
    exit 0
  fi
  wrong="$wrong
  uv could not fetch one"
fi

if [ -n "$named" ]; then
  what="$named is not one"
else
  what="there is none here"
fi
cat >&2 <<END
sc3d needs Python 3.10 to 3.14, and $what:${wrong:-
  no Python is found by that name}
uv gets one, without root; install it, then say the same again:
  curl -LsSf https://astral.sh/uv/install.sh | sh
Or name one that you have: make demo PYTHON=/path/to/python3
END
exit 1
