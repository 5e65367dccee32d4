#!/bin/sh
# Every manual page is clean mdoc.
n=0
for page in "$top_srcdir"/doc/man/*.[1-9]; do
	n=$((n + 1))
	if out=$(${MANDOC:-mandoc} -Tlint -Wwarning "$page" 2>&1); then
		echo "ok $n - $(basename "$page") is clean mdoc"
	else
		echo "$out" | sed 's/^/# /'
		echo "not ok $n - $(basename "$page") is clean mdoc"
	fi
done
echo "1..$n"
