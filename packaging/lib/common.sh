# shellcheck shell=bash
# Shared by the commands of the README: what they install, and how they speak. Source it from bash.

# How to run a command as root: nothing for root itself, else sudo.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -- "$@"
    else
        echo "${0##*/}: this needs root (or sudo) to run: $*" >&2
        return 1
    fi
}

# need_packages PACKAGE...: install those that are missing; what was installed is then in $installed_packages.
installed_packages=()
lists_are_fresh=''
need_packages() {
    local package missing=()
    for package; do
        if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
            missing+=("$package")
        fi
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    echo "installing ${missing[*]}" >&2
    local log
    log=$(mktemp)
    if ! {
        { [ -n "$lists_are_fresh" ] || as_root apt-get -q -o Acquire::Retries=3 update; } &&
            as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Acquire::Retries=3 \
                -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-unsafe-io -o Dpkg::Options::=--force-confold \
                install --no-install-recommends "${missing[@]}"
    } >"$log" 2>&1 </dev/null; then
        tail -n 30 "$log" >&2
        rm -f "$log"
        echo "${0##*/}: apt-get could not install ${missing[*]}" >&2
        return 1
    fi
    rm -f "$log"
    lists_are_fresh=1
    installed_packages+=("${missing[@]}")
}

# copy_sources ROOT DIRECTORY: what packages are made of, there. It depends neither on who builds nor on their umask.
copy_sources() {
    mkdir "$2"
    tar -C "$1" --exclude=__pycache__ --exclude='*.egg-info' --exclude=node_modules --exclude=.gitignore \
        --exclude=examples/c/server -cf - \
        pyproject.toml MANIFEST.in README.md LICENSE CHANGELOG.md docs memunit units examples packaging | tar -C "$2" -xf -
    chmod -R u=rwX,go=rX "$2"
}

# source_epoch ROOT: the time that packages say they are of, in seconds: SOURCE_DATE_EPOCH, or the newest entry's in Debian's
# changelog.
source_epoch() {
    echo "${SOURCE_DATE_EPOCH:-$(dpkg-parsechangelog -l "$1/packaging/debian/changelog" -S Timestamp)}"
}

# unpack_package DIRECTORY PACKAGE...: their files there, once. For a program whose package would start a service.
unpack_package() {
    local directory=$1
    shift
    [ ! -e "$directory/complete" ] || return 0
    echo "unpacking $*" >&2
    rm -rf "$directory"
    mkdir -p "$directory"
    if ! (
        cd "$directory"
        apt-get -q -o Acquire::Retries=3 download "$@" ||
            { as_root apt-get -q -o Acquire::Retries=3 update && apt-get -q -o Acquire::Retries=3 download "$@"; }
        for package in ./*.deb; do
            dpkg-deb -x "$package" .
        done
    ) >"$directory/log" 2>&1 </dev/null; then
        tail -n 30 "$directory/log" >&2
        echo "${0##*/}: apt-get could not download $*" >&2
        return 1
    fi
    touch "$directory/complete"
}

# What builds a throwaway machine and boots it under user-mode Linux, what else boots it, and what builds the .deb.
image_packages=(mmdebstrap e2fsprogs util-linux mount python3 ca-certificates)
case $(dpkg --print-architecture) in
    arm64) machine_packages=(qemu-system-arm) ;;
    *) machine_packages=(qemu-system-x86) ;;
esac
machine_packages+=(systemd-container)
package_packages=(build-essential debhelper dh-python fakeroot pybuild-plugin-pyproject python3-all
    python3-setuptools)
# Each script that sources this uses its part of the lists.
export image_packages machine_packages package_packages
