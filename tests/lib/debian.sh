# debian.sh - what building and testing need from Debian, and how it is installed. Sourced by quickstart and runtests.

build_packages='gcc make autoconf automake pkg-config libevent-dev liblmdb-dev libprotobuf-c-dev protobuf-c-compiler
	libjson-c-dev libsmartcols-dev zlib1g-dev libmd-dev uthash-dev libmilter-dev libsystemd-dev'
mail_packages='postfix swaks libnet-ssleay-perl sasl2-bin libsasl2-modules openssl python3'
test_packages='libcmocka-dev python3-hypothesis python3-pytest mandoc clang libclang-rt-14-dev valgrind xz-utils bsdextrautils systemd'

# Which of these packages are not installed.
missing_packages()
{
	for package in "$@"; do
		case $(dpkg-query -W -f='${Status}' "$package" 2>/dev/null) in
		*' installed') ;;
		*) echo "$package" ;;
		esac
	done
}

# Install what is missing, and nothing else: no package is removed (another MTA stays, and then we stop), no service is
# started, and no Postfix configuration is made. $1 is a file for what apt says, the rest are packages.
install_packages()
{
	apt_log=$1
	shift
	missing=$(missing_packages "$@")
	[ -n "$missing" ] || return 0
	if [ "$(id -u)" != 0 ]; then
		echo "These packages are missing, and only root can install them:" >&2
		echo "    apt-get install" $missing >&2
		return 1
	fi
	echo "Installing:" $missing
	export DEBIAN_FRONTEND=noninteractive
	policy=/usr/sbin/policy-rc.d
	ours=
	case " $(echo $missing) " in
	*' postfix '*)
		# apt-utils or not, debconf-set-selections is part of debconf, which is always there
		echo 'postfix postfix/main_mailer_type select No configuration' | debconf-set-selections
		if [ ! -e $policy ]; then
			ours=$policy
			printf '#!/bin/sh\nexit 101\n' >$policy
			chmod 755 $policy
		fi
		;;
	esac
	result=0
	{ apt-get -q update && apt-get -q -y --no-install-recommends --no-remove install $missing; } \
		</dev/null >"$apt_log" 2>&1 || result=1
	[ -z "$ours" ] || rm -f "$ours"
	[ $result = 0 ] || tail -n 20 "$apt_log" >&2
	return $result
}
