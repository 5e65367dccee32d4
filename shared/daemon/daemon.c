#include "shared/daemon/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <linux/capability.h>
#include <netdb.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "config.h"
#include "shared/base/log.h"

static void usage(const char *name, const char *purpose, FILE *out)
{
	fprintf(out,
	    "usage: %s [-C FILE] [-o name=value] [-v] [-S] [-t]\n"
	    "%s\n\n"
	    "  -C FILE         read FILE instead of %s\n"
	    "  -o name=value   set one setting (may be repeated)\n"
	    "  -S              log to syslog (facility mail) instead of standard error\n"
	    "  -t              check the configuration and exit\n"
	    "  -v              log more\n"
	    "  -h, --help      this text\n"
	    "  --version       the version\n",
	    name, purpose, CONFIG_FILE_DEFAULT);
}

void daemon_fatal(const struct errinfo *err)
{
	daemon_notify("STATUS=failed");
	log_error("%s", err->text);
	exit(3);
}

void daemon_start(struct daemon *daemon, const char *name, const char *purpose, int argc, char **argv)
{
	static const struct option longs[] = {{"help", no_argument, NULL, 'h'}, {"version", no_argument, NULL, 'V'}, {0}};
	const char *file = NULL, *assignments[64];
	size_t n_assignments = 0;
	bool check = false, to_syslog = false;
	struct errinfo err = {""};
	int c;

	daemon->name = name;
	config_init(&daemon->config);
	while ((c = getopt_long(argc, argv, "C:o:vtSh", longs, NULL)) != -1)
		switch (c) {
		case 'C':
			file = optarg;
			break;
		case 'o':
			if (n_assignments == sizeof(assignments) / sizeof(assignments[0])) {
				fprintf(stderr, "%s: too many -o\n", name);
				exit(2);
			}
			assignments[n_assignments++] = optarg;
			break;
		case 'v':
			log_set_level(LOG_LEVEL_DEBUG);
			break;
		case 't':
			check = true;
			break;
		case 'S':
			to_syslog = true;
			break;
		case 'h':
			usage(name, purpose, stdout);
			exit(0);
		case 'V':
			printf("%s %s\n", name, PACKAGE_VERSION);
			exit(0);
		default:
			usage(name, purpose, stderr);
			exit(2);
		}
	if (optind < argc) {
		fprintf(stderr, "%s: unexpected argument \"%s\"\n", name, argv[optind]);
		usage(name, purpose, stderr);
		exit(2);
	}
	log_open(name, to_syslog);
	umask(0027);
	if (config_load(&daemon->config, file, &err) != STATUS_OK)
		daemon_fatal(&err);
	for (size_t i = 0; i < n_assignments; i++)
		if (config_assign(&daemon->config, assignments[i], &err) != STATUS_OK)
			daemon_fatal(&err);
	if (check) {
		config_print(&daemon->config, true, stdout);
		exit(0);
	}
}

static enum status find_owner(const struct daemon *daemon, uid_t *uid, gid_t *gid, struct errinfo *err)
{
	struct passwd *pw = getpwnam(daemon->config.user);
	struct group *gr = getgrnam(daemon->config.group);

	if (!pw)
		return errinfo_set(err, STATUS_ABSENT,
		    "there is no user \"%s\" to run as: make it (useradd --system %s), or set user", daemon->config.user,
		    daemon->config.user);
	if (!gr)
		return errinfo_set(err, STATUS_ABSENT,
		    "there is no group \"%s\" to run as: make it (groupadd --system %s), or set group", daemon->config.group,
		    daemon->config.group);
	*uid = pw->pw_uid;
	*gid = gr->gr_gid;
	return STATUS_OK;
}

/* What this thread may do of root's: nothing, or to read any file. libcap would be a dependency for this one call. */
static bool set_reading(bool permitted, bool effective)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{0, 0, 0}};

	data[0].permitted = permitted ? 1u << CAP_DAC_READ_SEARCH : 0;
	data[0].effective = effective ? 1u << CAP_DAC_READ_SEARCH : 0;
	return syscall(SYS_capset, &header, data) == 0;
}

static bool reading_kept;

void daemon_keep_reading(struct daemon *daemon)
{
	daemon->keep_reading = true;
}

bool daemon_reading(enum daemon_reading wanted)
{
	if (!reading_kept || !set_reading(wanted != READING_GONE, wanted == READING_AWAKE))
		return false;
	reading_kept = wanted != READING_GONE;
	return wanted == READING_AWAKE;
}

enum status daemon_drop_privileges(const struct daemon *daemon, struct errinfo *err)
{
	enum status status;
	uid_t uid;
	gid_t gid;

	if (geteuid() != 0)
		return STATUS_OK;
	status = find_owner(daemon, &uid, &gid, err);
	if (status != STATUS_OK)
		return status;
	if (uid == 0)
		return STATUS_OK; /* asked for: user = root */
	if (daemon->keep_reading)
		prctl(PR_SET_KEEPCAPS, 1);
	if (initgroups(daemon->config.user, gid) != 0 || setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0)
		return errinfo_set(err, STATUS_DENIED, "can't become %s: %s", daemon->config.user, strerror(errno));
	if (daemon->keep_reading) {
		prctl(PR_SET_KEEPCAPS, 0);
		/* a container may not have it: then a log of root's is said to be unreadable when it is opened */
		reading_kept = set_reading(true, false);
		if (!reading_kept && !set_reading(false, false))
			return errinfo_set(err, STATUS_DENIED, "can't give up root's rights: %s", strerror(errno));
	}
	prctl(PR_SET_DUMPABLE, 0);
	return STATUS_OK;
}

enum status daemon_make_directory(const struct daemon *daemon, const char *path, unsigned mode, struct errinfo *err)
{
	enum status status;
	uid_t uid;
	gid_t gid;

	if (mkdir(path, 0700) != 0) {
		if (errno == EEXIST)
			return STATUS_OK;
		return errinfo_set(err, STATUS_IO, "can't make the directory %s: %s", path, strerror(errno));
	}
	if (geteuid() == 0) {
		status = find_owner(daemon, &uid, &gid, err);
		if (status != STATUS_OK) {
			rmdir(path);
			return status;
		}
		if (chown(path, uid, gid) != 0)
			return errinfo_set(err, STATUS_IO, "can't give %s to %s: %s", path, daemon->config.user, strerror(errno));
	}
	if (chmod(path, mode) != 0)
		return errinfo_set(err, STATUS_IO, "can't set the mode of %s: %s", path, strerror(errno));
	return STATUS_OK;
}

/* Ours, with entry for Postfix's group: whoever may connect could write false facts. */
static enum status make_socket_directory(
    const struct daemon *daemon, const struct listen_address *address, struct errinfo *err)
{
	struct passwd *postfix = getpwnam("postfix");
	bool only_postfix = postfix && geteuid() == 0;
	char directory[sizeof(address->path)];
	struct stat st;
	char *slash;

	memcpy(directory, address->path, sizeof(directory));
	slash = strrchr(directory, '/');
	if (!slash || slash == directory)
		return STATUS_OK;
	*slash = '\0';
	if (stat(directory, &st) == 0)
		return STATUS_OK; /* its permissions are the administrator's */
	if (daemon_make_directory(daemon, directory, only_postfix ? 0750 : 0711, err) != STATUS_OK)
		return STATUS_IO;
	if (only_postfix && (chown(directory, (uid_t)-1, postfix->pw_gid) != 0 || chmod(directory, 0750) != 0))
		return errinfo_set(err, STATUS_IO, "can't let Postfix into %s: %s", directory, strerror(errno));
	return STATUS_OK;
}

enum status daemon_make_directories(
    const struct daemon *daemon, const struct listen_address *address, struct errinfo *err)
{
	enum status status = daemon_make_directory(daemon, daemon->config.store_directory, 02750, err);

	if (status == STATUS_OK)
		status = daemon_make_directory(daemon, daemon->config.journal_directory, 02750, err);
	if (status == STATUS_OK && address->is_unix)
		status = make_socket_directory(daemon, address, err);
	return status;
}

static struct sockaddr_un unix_address(const struct listen_address *address)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};

	memcpy(sun.sun_path, address->path, sizeof(sun.sun_path));
	return sun;
}

bool daemon_is_served(const struct listen_address *address)
{
	struct sockaddr_un sun = unix_address(address);
	int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool served;

	if (!address->is_unix || probe < 0) {
		if (probe >= 0)
			close(probe);
		return false;
	}
	served = connect(probe, (struct sockaddr *)&sun, sizeof(sun)) == 0 || errno == EAGAIN;
	close(probe);
	return served;
}

static enum status listen_unix(const struct listen_address *address, int backlog, int *out, struct errinfo *err)
{
	struct sockaddr_un sun = unix_address(address);
	struct stat st;
	int fd;

	if (daemon_is_served(address))
		return errinfo_set(err, STATUS_BUSY, "another process listens on %s already", address->path);
	if (lstat(address->path, &st) == 0 && S_ISSOCK(st.st_mode))
		unlink(address->path); /* left over from a kill */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && bind(fd, (struct sockaddr *)&sun, sizeof(sun)) == 0 && chmod(address->path, 0666) == 0 &&
	    listen(fd, backlog) == 0) {
		*out = fd;
		return STATUS_OK;
	}
	errinfo_set(err, STATUS_IO, "can't listen on %s: %s", address->path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return STATUS_IO;
}

static enum status listen_inet(const struct listen_address *address, int backlog, int *out, struct errinfo *err)
{
	struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *list = NULL;
	char port[8];
	int fd = -1, on = 1, rc;

	snprintf(port, sizeof(port), "%u", address->port);
	rc = getaddrinfo(address->host[0] ? address->host : NULL, port, &hints, &list);
	if (rc != 0)
		return errinfo_set(err, STATUS_INVALID, "can't listen on %s: %s", address->host, gai_strerror(rc));
	for (struct addrinfo *ai = list; ai; ai = ai->ai_next) {
		fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, ai->ai_protocol);
		if (fd < 0)
			continue;
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, backlog) == 0)
			break;
		rc = errno;
		close(fd);
		errno = rc;
		fd = -1;
	}
	freeaddrinfo(list);
	if (fd < 0)
		return errinfo_set(
		    err, STATUS_IO, "can't listen on %s port %u: %s", address->host, address->port, strerror(errno));
	*out = fd;
	return STATUS_OK;
}

enum status daemon_listen(const struct listen_address *address, int backlog, int *fd, struct errinfo *err)
{
	return address->is_unix ? listen_unix(address, backlog, fd, err) : listen_inet(address, backlog, fd, err);
}

void daemon_notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	size_t len = path ? strlen(path) : 0;
	int fd;

	if (len < 2 || len >= sizeof(sun.sun_path) || (path[0] != '/' && path[0] != '@'))
		return;
	memcpy(sun.sun_path, path, len);
	if (path[0] == '@')
		sun.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&sun,
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0)
		log_debug("sd_notify: %s", strerror(errno));
	close(fd);
}

void daemon_raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}
