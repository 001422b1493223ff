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
        as_root apt-get -q -o Acquire::Retries=3 update &&
            as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Acquire::Retries=3 \
                -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-unsafe-io -o Dpkg::Options::=--force-confold \
                install --no-install-recommends "${missing[@]}"
    } >"$log" 2>&1 </dev/null; then
        tail -n 30 "$log" >&2
        rm -f "$log"
        echo "${0##*/}: apt-get could not install ${missing[*]}" >&2
        return 1
    fi
    rm -f "$log"
    installed_packages+=("${missing[@]}")
}

# unpack_package DIRECTORY PACKAGE: its files there, once. For a program whose package would start a service.
unpack_package() {
    local directory=$1 package=$2
    [ ! -e "$directory/complete" ] || return 0
    echo "unpacking $package" >&2
    rm -rf "$directory"
    mkdir -p "$directory"
    if ! (
        cd "$directory"
        apt-get -q -o Acquire::Retries=3 download "$package" ||
            { as_root apt-get -q -o Acquire::Retries=3 update && apt-get -q -o Acquire::Retries=3 download "$package"; }
        dpkg-deb -x ./*.deb .
    ) >"$directory/log" 2>&1 </dev/null; then
        tail -n 30 "$directory/log" >&2
        echo "${0##*/}: apt-get could not download $package" >&2
        return 1
    fi
    touch "$directory/complete"
}

# What boots a throwaway machine, and what builds the .deb.
machine_packages=(mmdebstrap e2fsprogs util-linux mount python3)
case $(dpkg --print-architecture) in
    arm64) machine_packages+=(qemu-system-arm) ;;
    *) machine_packages+=(qemu-system-x86) ;;
esac
package_packages=(build-essential debhelper dh-python fakeroot pybuild-plugin-pyproject python3-all
    python3-setuptools)
# Each script that sources this uses its part of the lists.
export machine_packages package_packages
