/*
 * Makes the traffic that is measured, and measures it: MODE ADDRESS PORT COUNT. Prints the median of what one took (ns),
 * and the processor time a packet (ns).
 *
 *   serve      answers TCP connections, exchanges and datagrams on the port, takes datagrams on the next, for ever
 *   connect    so many connections, one after the other
 *   exchange   a byte to and fro over one connection
 *   datagrams  a byte to and fro by one socket that is not connected
 *   one-way    datagrams that nobody answers, to one destination
 *   tcp, udp   a byte to and fro between two connected sockets of its own, on the address and port
 *   changing   the same, to 1,000 destinations in turn (127.0.0.0/8 style: the last two bytes of the address count up)
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_in place;
static int other = -1; /* the second socket, if both are ours */

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

static int connected(void)
{
    int on = 1, made = opened(SOCK_STREAM, 0, 0);

    must(!connect(made, (void *)&place, sizeof(place)), "connect");
    setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return made;
}

static void serve(void)
{
    struct pollfd seen[64] = {{.fd = opened(SOCK_STREAM, 0, 1)}, {.fd = opened(SOCK_DGRAM, 0, 1)}, {.fd = opened(SOCK_DGRAM, 1, 1)}};
    struct sockaddr_in from;
    socklen_t size;
    int count = 3, i, on = 1;
    char byte[16];

    must(!listen(seen[0].fd, 4096), "listen");
    for (i = 0; i < 64; i++)
        seen[i].events = POLLIN;
    puts("ready");
    fflush(stdout);
    for (;;) {
        poll(seen, count, -1);
        if (seen[0].revents && count < 64) {
            seen[count].fd = accept(seen[0].fd, NULL, NULL);
            setsockopt(seen[count].fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
            seen[count++].revents = 0;
        }
        for (size = sizeof(from); seen[1].revents && recvfrom(seen[1].fd, byte, sizeof(byte), MSG_DONTWAIT, (void *)&from, &size) >= 0;)
            sendto(seen[1].fd, byte, 1, 0, (void *)&from, size);
        while (seen[2].revents && recv(seen[2].fd, byte, sizeof(byte), MSG_DONTWAIT) >= 0)
            ;
        for (i = 3; i < count; i++)
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

/* Two sockets of this process, connected to each other. */
static void join(int kind, int *one, int *other)
{
    int listener = opened(kind, 0, 1), on = 1;
    struct sockaddr_in from;
    socklen_t size = sizeof(from);

    *one = opened(kind, 0, 0);
    if (kind == SOCK_STREAM)
        must(!listen(listener, 1), "listen");
    must(!connect(*one, (void *)&place, sizeof(place)), "connect");
    if (kind == SOCK_STREAM) {
        *other = accept(listener, NULL, NULL);
        setsockopt(*one, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        setsockopt(*other, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    } else {
        *other = listener;
        must(!getsockname(*one, (void *)&from, &size), "getsockname");
        must(!connect(*other, (void *)&from, sizeof(from)), "connect");
    }
}

static void to_and_fro(int one, int other)
{
    char byte = 'x';

    must(send(one, &byte, 1, 0) == 1 && recv(other, &byte, 1, 0) == 1, "there");
    must(send(other, &byte, 1, 0) == 1 && recv(one, &byte, 1, 0) == 1, "back");
}

static void once(const char *mode, int socket_, long number)
{
    struct linger none = {1, 0};
    struct sockaddr_in to = place;
    char byte = 'x';
    int made;

    if (other >= 0) {
        to_and_fro(socket_, other);
    } else if (!strcmp(mode, "connect")) {
        made = connected();
        setsockopt(made, SOL_SOCKET, SO_LINGER, &none, sizeof(none)); /* no TIME_WAIT, else ports run out */
        close(made);
    } else if (!strcmp(mode, "exchange")) {
        must(send(socket_, &byte, 1, 0) == 1 && recv(socket_, &byte, 1, 0) == 1, "exchange");
    } else if (!strcmp(mode, "datagrams")) {
        must(sendto(socket_, &byte, 1, 0, (void *)&to, sizeof(to)) == 1 && recv(socket_, &byte, 1, 0) == 1, "datagram");
    } else {
        to.sin_port = htons(ntohs(to.sin_port) + 1);
        if (!strcmp(mode, "changing"))
            to.sin_addr.s_addr = htonl(ntohl(to.sin_addr.s_addr) + number % 1000);
        must(sendto(socket_, &byte, 1, 0, (void *)&to, sizeof(to)) == 1, "send");
    }
}

static int by_size(const void *a, const void *b)
{
    return *(const uint32_t *)a < *(const uint32_t *)b ? -1 : *(const uint32_t *)a > *(const uint32_t *)b;
}

int main(int count, char **words)
{
    long times, i;
    uint32_t *took;
    uint64_t began, spent;
    int made = -1;

    must(count >= 4, "MODE ADDRESS PORT [COUNT]");
    place.sin_family = AF_INET;
    place.sin_addr.s_addr = inet_addr(words[2]);
    place.sin_port = htons(atoi(words[3]));
    if (!strcmp(words[1], "serve"))
        serve();
    must(count >= 5, "MODE ADDRESS PORT COUNT");
    times = atol(words[4]);
    took = calloc(times, sizeof(*took));
    if (!strcmp(words[1], "tcp") || !strcmp(words[1], "udp"))
        join(*words[1] == 't' ? SOCK_STREAM : SOCK_DGRAM, &made, &other);
    else if (!strcmp(words[1], "exchange"))
        made = connected();
    else if (strcmp(words[1], "connect"))
        made = opened(SOCK_DGRAM, 0, 0);
    for (i = 0; i < times / 10; i++)
        once(words[1], made, i);
    spent = now(CLOCK_PROCESS_CPUTIME_ID);
    for (i = 0; i < times; i++) {
        began = now(CLOCK_MONOTONIC);
        once(words[1], made, i);
        took[i] = now(CLOCK_MONOTONIC) - began;
    }
    spent = now(CLOCK_PROCESS_CPUTIME_ID) - spent;
    qsort(took, times, sizeof(*took), by_size);
    printf("%u %llu\n", took[times / 2], (unsigned long long)(spent / times));
    return 0;
}
