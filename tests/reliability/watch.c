/*
 * Counts what arrives on the wire for some TCP and UDP ports: ADAPTER FIRST LAST. A packet socket, so it sees segments
 * that no connection comes of, too. Only frames to these ports reach it, so nothing else can crowd them out.
 */
#define _GNU_SOURCE
#include "helper.h"
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>

static void only(int descriptor, uint32_t first, uint32_t last)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IPV6, 0, 5),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 20),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_TCP, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 0, 12),
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 56),
        BPF_JUMP(BPF_JMP | BPF_JA, 8, 0, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 0, 9),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 23),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_TCP, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 0, 6),
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 20),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x1fff, 4, 0),
        BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 14),
        BPF_STMT(BPF_LD | BPF_H | BPF_IND, 16),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, first, 0, 1),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, last, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, 64),
    };
    struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

    if (setsockopt(descriptor, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)))
        fail("filter");
}

int main(int argc, char **argv)
{
    struct sockaddr_ll here = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    struct pollfd both[2] = {{.fd = 0, .events = POLLIN}, {.events = POLLIN}};
    struct sockaddr_ll from;
    socklen_t size;
    char frame[64];

    if (argc < 4)
        return 2;
    both[1].fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0); /* nothing before the filter is there */
    only(both[1].fd, strtoul(argv[2], NULL, 10), strtoul(argv[3], NULL, 10));
    here.sll_ifindex = if_nametoindex(argv[1]);
    if (bind(both[1].fd, (void *)&here, sizeof(here)))
        fail("bind");
    tell("ready");
    for (;;) {
        poll(both, 2, -1);
        if (both[1].revents) {
            size = sizeof(from);
            if (recvfrom(both[1].fd, frame, sizeof(frame), 0, (void *)&from, &size) > 0 &&
                from.sll_pkttype != PACKET_OUTGOING)
                count(0);
            continue; /* what is asked is answered when everything that came is counted */
        }
        if (both[0].revents)
            look_up();
    }
}
