# Inside the tool tree: the index of a repository of the packages in pool, and the kernel as a tree.
set -eu
cd /run/here/repository
packages=dists/$SUITE/main/binary-amd64/Packages
mkdir -p "${packages%/*}"
for deb in pool/*.deb; do
    dpkg-deb --field "$deb"
    echo "Filename: $deb"
    echo "Size: $(stat --format %s "$deb")"
    echo "SHA256: $(sha256sum "$deb" | cut -d ' ' -f 1)"
    echo
done >"$packages"
printf 'Suite: %s\nCodename: %s\nComponents: main\nArchitectures: amd64\nSHA256:\n %s %s %s\n' "$SUITE" "$SUITE" \
    "$(sha256sum "$packages" | cut -d ' ' -f 1)" "$(stat --format %s "$packages")" "${packages#dists/$SUITE/}" \
    >"dists/$SUITE/Release"
tree=/run/here/config/kernel
for deb in /run/here/kernel/*.deb; do
    dpkg-deb --extract "$deb" "$tree"
done
mkdir -p "$tree/usr/lib/systemd/boot/efi"
cp /usr/lib/systemd/boot/efi/linuxx64.efi.stub "$tree/usr/lib/systemd/boot/efi"
