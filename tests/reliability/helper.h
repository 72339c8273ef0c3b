/*
 * What the helpers of the reliability experiments share. A helper works until its standard input ends; between two
 * pieces of work it looks there: the line "count" is answered with one JSON line of everything counted so far, in the
 * form of the end-to-end tests' senders, so that their Child reads it; "end" likewise, and it was the last thing.
 */
#ifndef HELPER_H
#define HELPER_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define ERRORS 134

struct tally {
    uint64_t tried, passed, errors[ERRORS], changes, mixed, extra;
};

static struct tally tally;

static inline void fail(const char *what)
{
    perror(what);
    exit(1);
}

static inline double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

/* Processor seconds of this process. */
static inline double worked(void)
{
    struct rusage used;

    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

/* One attempt: 0 passed, else how it failed. */
static inline void count(int number)
{
    tally.tried++;
    if (number)
        tally.errors[number < ERRORS ? number : ERRORS - 1]++;
    else
        tally.passed++;
}

static inline void tell(const char *event)
{
    const char *between = "";
    int i;

    printf("{\"ok\": true, \"errno\": null, \"data\": {\"event\": \"%s\", \"tried\": %lu, \"passed\": %lu, ", event,
           (unsigned long)tally.tried, (unsigned long)tally.passed);
    printf("\"changes\": %lu, \"mixed\": %lu, \"extra\": %lu, \"cpu\": %.6f, \"errors\": {",
           (unsigned long)tally.changes, (unsigned long)tally.mixed, (unsigned long)tally.extra, worked());
    for (i = 0; i < ERRORS; i++)
        if (tally.errors[i]) {
            printf("%s\"%s\": %lu", between, strerrorname_np(i) ?: "?", (unsigned long)tally.errors[i]);
            between = ", ";
        }
    printf("}}}\n");
    fflush(stdout);
}

/* Reads what standard input has within some ms into `line`; 0 if nothing. Its end, or "end", ends the helper. */
static inline int told(char *line, size_t size, int wait)
{
    struct pollfd input = {.fd = 0, .events = POLLIN};
    ssize_t got;

    if (poll(&input, 1, wait) <= 0)
        return 0;
    got = read(0, line, size - 1);
    if (got <= 0)
        exit(0);
    line[got] = 0;
    if (!strncmp(line, "end", 3)) {
        tell("end");
        exit(0);
    }
    return 1;
}

/* Between two pieces of work: answers "count", once for each line. */
static inline void look_up(void)
{
    char line[256];

    if (told(line, sizeof(line), 0))
        tell("count");
}

static inline struct sockaddr_in at(uint32_t address, uint16_t port)
{
    struct sockaddr_in point = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(address)};

    return point;
}

static inline uint32_t address_of(const char *text)
{
    struct in_addr found;

    if (!inet_aton(text, &found))
        fail(text);
    return ntohl(found.s_addr);
}

static inline int new_socket(int kind)
{
    int made = socket(AF_INET, kind | SOCK_CLOEXEC, 0);

    if (made < 0)
        fail("socket");
    return made;
}

static inline void patience(int descriptor, int limit)
{
    struct timeval wait = {.tv_sec = limit};

    if (setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) ||
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)))
        fail("time-out");
}

/* Closing resets the connection: no TIME_WAIT holds the port. */
static inline void reset_at_close(int descriptor)
{
    struct linger at_once = {.l_onoff = 1};

    if (setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)))
        fail("linger");
}

/* As many descriptors as this process, and it alone, may have. */
static inline void many_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit))
        fail("RLIMIT_NOFILE");
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

#endif
