#!/bin/sh
# One file out of a package of npm: npm_file.sh PACKAGE@VERSION SHA512 FILE-IN-IT TARGET
# The package is taken only if it has that hash.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
package=$(cd "$folder" && npm pack --silent --fetch-retries 1 "$1")
echo "$2  $folder/$package" | sha512sum --check --quiet
tar -xzf "$folder/$package" -C "$folder" "package/$3"
mv "$folder/package/$3" "$4"
