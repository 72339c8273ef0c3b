/*
 * Makes the traffic that is measured, and measures it: MODE ADDRESS PORT [COUNT].
 *
 *   serve     on the port: answers bytes, of connections and of datagrams; on the next: takes datagrams, and accepts
 *             connections only to reset them
 *   measure   for each line "WAY MICROSECONDS" of standard input one slice of that way, until its input ends
 *   try       one connection: exit status 0, or 3 if it is refused or not there within a second
 *   tcp, udp  COUNT times a byte to and fro between two connected sockets of its own, on the address and port
 *
 * The ways, of sockets that each slice opens anew:
 *
 *   connect    a connection, until the server has accepted and ended it; wall time
 *   handshake  the client's part of it alone, opened and closed; wall time
 *   exchange   a byte to and fro over one connection; wall time
 *   datagrams  a byte to and fro by one socket that is not connected; processor time of this process
 *   one-way    datagrams that nobody answers, to one destination; processor time
 *   changing   the same, to 1,000 destinations in turn (the last two bytes of the address count up); processor time
 *
 * A slice warms up, then goes on until so much time was measured; its answer is the lower quartile and the median of
 * what one took (ns), how many samples there were, and how often it was done, with the warm-up. A sample of processor
 * time is a batch of BATCH. Client and server share one processor, and neither takes it from the other (SCHED_BATCH):
 * each goes on until it has to wait. At the end of a batch that nobody answers the server is waited for, unmeasured,
 * until it has taken what there is.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH 100
#define DESTINATIONS 1000
#define SAMPLES 65536
#define WARM 2 /* the warm-up's part of a slice: a half */

static struct sockaddr_in place;
static int control = -1; /* a connection that asks the server whether it is done */

static void must(int good, const char *what)
{
    if (!good) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static uint64_t now(clockid_t clock)
{
    struct timespec at;

    clock_gettime(clock, &at);
    return at.tv_sec * 1000000000ULL + at.tv_nsec;
}

static int opened(int kind, int port_offset, int bound)
{
    struct sockaddr_in here = place;
    int on = 1, made = socket(AF_INET, kind, 0);

    must(made >= 0, "socket");
    here.sin_port = htons(ntohs(here.sin_port) + port_offset);
    if (bound) {
        here.sin_addr.s_addr = INADDR_ANY;
        setsockopt(made, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        must(!bind(made, (void *)&here, sizeof(here)), "bind");
    }
    return made;
}

/* Closing resets the connection: no TIME_WAIT, else ports run out. Who is accepted inherits it. */
static void reset_at_close(int made)
{
    struct linger none = {1, 0};

    must(!setsockopt(made, SOL_SOCKET, SO_LINGER, &none, sizeof(none)), "linger");
}

/* Client and server take turns on their processor. */
static void take_turns(void)
{
    struct sched_param none = {0};

    must(!sched_setscheduler(0, SCHED_BATCH, &none), "SCHED_BATCH");
}

static int connected(int port_offset)
{
    struct sockaddr_in there = place;
    int on = 1, made = opened(SOCK_STREAM, 0, 0);

    there.sin_port = htons(ntohs(there.sin_port) + port_offset);
    /* reset: who is let through only later may find that the server has ended it already */
    must(!connect(made, (void *)&there, sizeof(there)) || (port_offset && errno == ECONNRESET), "connect");
    setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    reset_at_close(made);
    return made;
}

static void serve(void)
{
    struct pollfd seen[64] = {{.fd = opened(SOCK_STREAM | SOCK_NONBLOCK, 0, 1)}, {.fd = opened(SOCK_DGRAM, 0, 1)},
                              {.fd = opened(SOCK_STREAM | SOCK_NONBLOCK, 1, 1)}, {.fd = opened(SOCK_DGRAM, 1, 1)}};
    int count = 4, i, on = 1, made;
    struct sockaddr_in from;
    socklen_t size;
    char byte[16];

    reset_at_close(seen[2].fd);
    must(!listen(seen[0].fd, 64) && !listen(seen[2].fd, 4096), "listen");
    take_turns();
    for (i = 0; i < 64; i++)
        seen[i].events = POLLIN;
    puts("ready");
    fflush(stdout);
    for (;;) {
        poll(seen, count, -1);
        while (seen[2].revents && (made = accept(seen[2].fd, NULL, NULL)) >= 0)
            close(made);
        while (seen[3].revents && recv(seen[3].fd, byte, sizeof(byte), MSG_DONTWAIT) >= 0)
            ;
        for (size = sizeof(from); seen[1].revents && recvfrom(seen[1].fd, byte, sizeof(byte), MSG_DONTWAIT, (void *)&from, &size) >= 0;)
            sendto(seen[1].fd, byte, 1, 0, (void *)&from, size);
        if (seen[0].revents && count < 64 && (made = accept(seen[0].fd, NULL, NULL)) >= 0) {
            setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
            seen[count].fd = made;
            seen[count++].revents = 0;
        }
        for (i = 4; i < count; i++)
            if (seen[i].revents) {
                if (recv(seen[i].fd, byte, sizeof(byte), 0) > 0) {
                    send(seen[i].fd, byte, 1, MSG_NOSIGNAL);
                } else {
                    close(seen[i].fd);
                    seen[i--] = seen[--count];
                }
            }
    }
}

/* -- two sockets of one process ------------------------------------------------------------------------------------ */

static void to_and_fro(int kind, long times)
{
    int listener = opened(kind, 0, 1), one = opened(kind, 0, 0), other = listener, on = 1;
    struct sockaddr_in from;
    socklen_t size = sizeof(from);
    char byte = 'x';

    if (kind == SOCK_STREAM)
        must(!listen(listener, 1), "listen");
    must(!connect(one, (void *)&place, sizeof(place)), "connect");
    if (kind == SOCK_STREAM) {
        other = accept(listener, NULL, NULL);
        setsockopt(one, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        setsockopt(other, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    } else {
        must(!getsockname(one, (void *)&from, &size), "getsockname");
        must(!connect(other, (void *)&from, sizeof(from)), "connect");
    }
    while (times--) {
        must(send(one, &byte, 1, 0) == 1 && recv(other, &byte, 1, 0) == 1, "there");
        must(send(other, &byte, 1, 0) == 1 && recv(one, &byte, 1, 0) == 1, "back");
    }
}

/* -- the ways ------------------------------------------------------------------------------------------------------ */

static void connect_one(int unused, long number)
{
    char byte = unused + number;
    int made = connected(1);

    must(recv(made, &byte, 1, 0) <= 0, "an end");
    close(made);
}

static void handshake_one(int unused, long number)
{
    (void)unused;
    (void)number;
    close(connected(1));
}

static void exchange_one(int made, long number)
{
    char byte = number;

    must(send(made, &byte, 1, 0) == 1 && recv(made, &byte, 1, 0) == 1, "exchange");
}

static void datagram_one(int made, long number)
{
    char byte = number;

    must(sendto(made, &byte, 1, 0, (void *)&place, sizeof(place)) == 1 && recv(made, &byte, 1, 0) == 1, "datagram");
}

static void send_one(int made, long number, int destinations)
{
    struct sockaddr_in to = place;
    char byte = number;

    to.sin_port = htons(ntohs(to.sin_port) + 1);
    to.sin_addr.s_addr = htonl(ntohl(to.sin_addr.s_addr) + number % destinations);
    must(sendto(made, &byte, 1, 0, (void *)&to, sizeof(to)) == 1, "send");
}

static void one_way(int made, long number)
{
    send_one(made, number, 1);
}

static void changing(int made, long number)
{
    send_one(made, number, DESTINATIONS);
}

static const struct way {
    const char *name;
    void (*once)(int made, long number);
    int kind;       /* of the socket that a slice opens, if any */
    int timed;      /* each is a sample, of wall time */
    int unanswered; /* the server is waited for after a batch */
    long first;     /* so many at least are the warm-up */
} WAYS[] = {
    {"connect", connect_one, 0, 1, 0, 0},
    {"handshake", handshake_one, 0, 1, 1, 0},
    {"exchange", exchange_one, SOCK_STREAM, 1, 0, 0},
    {"datagrams", datagram_one, SOCK_DGRAM, 0, 0, 0},
    {"one-way", one_way, SOCK_DGRAM, 0, 1, 0},
    {"changing", changing, SOCK_DGRAM, 0, 1, DESTINATIONS},
};

/* Samples until so much time (ns) was measured; how many. `number` counts on. */
static long sampled(const struct way *way, int made, uint64_t enough, long *number, uint32_t *took)
{
    uint64_t spent = 0, began, cpu;
    long many = 0;
    int i;

    while (spent < enough && many < SAMPLES - BATCH) {
        cpu = now(CLOCK_THREAD_CPUTIME_ID);
        for (i = 0; i < BATCH && (!way->timed || spent < enough); i++) {
            began = way->timed ? now(CLOCK_MONOTONIC) : 0;
            way->once(made, (*number)++);
            if (way->timed) {
                took[many] = now(CLOCK_MONOTONIC) - began;
                spent += took[many++];
            }
        }
        cpu = now(CLOCK_THREAD_CPUTIME_ID) - cpu;
        if (!way->timed) {
            took[many++] = cpu / BATCH;
            spent += cpu;
        }
        if (way->unanswered)
            exchange_one(control, 0);
    }
    return many;
}

static int by_size(const void *a, const void *b)
{
    return *(const uint32_t *)a < *(const uint32_t *)b ? -1 : *(const uint32_t *)a > *(const uint32_t *)b;
}

static void slice(const struct way *way, uint64_t enough)
{
    static uint32_t took[SAMPLES];
    long number = 0, many;
    int made = -1;

    if (way->kind == SOCK_STREAM)
        made = connected(0);
    else if (way->kind)
        made = opened(way->kind, 0, 0);
    do
        sampled(way, made, enough / WARM, &number, took);
    while (number < way->first);
    many = sampled(way, made, enough, &number, took);
    if (made >= 0)
        close(made);
    qsort(took, many, sizeof(*took), by_size);
    printf("%u %u %ld %ld\n", took[many / 4], took[many / 2], many, number);
    fflush(stdout);
}

static void measure(void)
{
    char name[16];
    unsigned long long enough;
    size_t i;

    take_turns();
    control = connected(0);
    while (scanf("%15s %llu", name, &enough) == 2) {
        for (i = 0; i < sizeof(WAYS) / sizeof(*WAYS) && strcmp(name, WAYS[i].name); i++)
            ;
        must(i < sizeof(WAYS) / sizeof(*WAYS), name);
        slice(&WAYS[i], enough * 1000);
    }
}

static int try(void)
{
    struct timeval wait = {.tv_sec = 1};
    int made = opened(SOCK_STREAM, 0, 0);

    setsockopt(made, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
    return connect(made, (void *)&place, sizeof(place)) ? 3 : 0;
}

int main(int count, char **words)
{
    must(count >= 4, "MODE ADDRESS PORT [COUNT]");
    place.sin_family = AF_INET;
    place.sin_addr.s_addr = inet_addr(words[2]);
    place.sin_port = htons(atoi(words[3]));
    if (!strcmp(words[1], "serve"))
        serve();
    else if (!strcmp(words[1], "measure"))
        measure();
    else if (!strcmp(words[1], "try"))
        return try();
    else if (count >= 5)
        to_and_fro(*words[1] == 't' ? SOCK_STREAM : SOCK_DGRAM, atol(words[4]));
    return 0;
}
