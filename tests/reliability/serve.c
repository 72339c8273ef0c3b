/*
 * The other end: PORT PORTS. Answers every TCP connection and every datagram on so many ports with what it got, from
 * the address it was sent to. `tried` counts connections and datagrams, `passed` answers, `extra` open connections.
 */
#define _GNU_SOURCE
#include "helper.h"
#include <sys/epoll.h>

#define LISTENERS 4096
#define BACKLOG 4096

static int kinds[LISTENERS]; /* by descriptor: SOCK_STREAM for a listener, SOCK_DGRAM; 0 for a connection */
static int waiting;

static void watch(int descriptor)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = descriptor};

    if (epoll_ctl(waiting, EPOLL_CTL_ADD, descriptor, &event))
        fail("epoll_ctl");
}

static void serve(int kind, uint16_t port)
{
    struct sockaddr_in here = at(INADDR_ANY, port);
    int made = new_socket(kind | SOCK_NONBLOCK), on = 1, room = 4 << 20;

    setsockopt(made, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(made, (void *)&here, sizeof(here)))
        fail("bind");
    if (kind == SOCK_STREAM && listen(made, BACKLOG))
        fail("listen");
    if (kind == SOCK_DGRAM) {
        setsockopt(made, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
        if (setsockopt(made, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on)))
            fail("IP_PKTINFO");
    }
    if (made >= LISTENERS)
        fail("too many ports");
    kinds[made] = kind;
    watch(made);
}

static void accept_all(int listener)
{
    int made;

    while ((made = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        tally.tried++;
        tally.extra++;
        if (made < LISTENERS)
            kinds[made] = 0;
        watch(made);
    }
}

static void answer_datagrams(int descriptor)
{
    char text[2048], control[CMSG_SPACE(sizeof(struct in_pktinfo))];
    struct sockaddr_in from;
    struct iovec vector = {.iov_base = text};
    struct msghdr message;
    struct in_pktinfo *place;
    ssize_t got;

    for (;;) {
        vector.iov_len = sizeof(text);
        message = (struct msghdr){.msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &vector, .msg_iovlen = 1,
                                  .msg_control = control, .msg_controllen = sizeof(control)};
        got = recvmsg(descriptor, &message, 0);
        if (got < 0)
            return;
        tally.tried++;
        vector.iov_len = got;
        place = (void *)CMSG_DATA(CMSG_FIRSTHDR(&message));
        place->ipi_spec_dst = place->ipi_addr; /* the source of the answer */
        place->ipi_ifindex = 0;
        if (sendmsg(descriptor, &message, 0) == got)
            tally.passed++;
    }
}

static void answer(int descriptor)
{
    char text[4096];
    ssize_t got = recv(descriptor, text, sizeof(text), 0);

    if (got > 0 && send(descriptor, text, got, MSG_NOSIGNAL) == got) {
        tally.passed++;
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        epoll_ctl(waiting, EPOLL_CTL_DEL, descriptor, NULL); /* a copy that `up` or `reload` looks at may live on */
        close(descriptor);
        tally.extra--;
    }
}

int main(int argc, char **argv)
{
    struct epoll_event events[256];
    unsigned int port = argc > 1 ? strtoul(argv[1], NULL, 10) : 0, ports = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
    int some, i, descriptor;

    many_descriptors();
    waiting = epoll_create1(EPOLL_CLOEXEC);
    watch(0);
    for (i = 0; i < (int)ports; i++) {
        serve(SOCK_DGRAM, port + i);
        serve(SOCK_STREAM, port + i);
    }
    tell("ready");
    for (;;) {
        some = epoll_wait(waiting, events, 256, -1);
        for (i = 0; i < some; i++) {
            descriptor = events[i].data.fd;
            if (descriptor == 0)
                look_up();
            else if (descriptor < LISTENERS && kinds[descriptor] == SOCK_STREAM)
                accept_all(descriptor);
            else if (descriptor < LISTENERS && kinds[descriptor] == SOCK_DGRAM)
                answer_datagrams(descriptor);
            else
                answer(descriptor);
        }
    }
}
