/*
 * Packets into flows: addresses, ports, protocol, as seen from this end. Reads with bounds, trusts no length.
 */
#define KPF_TCP 6
#define KPF_UDP 17
#define KPF_ICMP 1
#define KPF_ICMPV6 58
#define KPF_SCTP 132
#define KPF_UDPLITE 136
#define KPF_EXTENSIONS 8 /* IPv6 extension headers followed at most; what has more is no packet (KPF_DEFAULT_NO_IP) */
#define KPF_HEADER_WORDS 5 /* of 8 bytes: an IPv6 header */
#define KPF_TCP_SYN 2
#define KPF_TCP_RST 4
#define KPF_TCP_ACK 16

/* What of a packet is not in the flow. */
struct kpf_packet {
    u32 network;     /* offset of the network header: 0 for a socket's packet */
    u32 transport;   /* offset of the transport header; 0: not there (a later fragment, too many extensions) */
    u16 icmp_id;
    u16 sequence;    /* of TCP: the lower half of the number */
    u8 tcp_flags;
    u8 icmp_type;    /* as on the wire */
};

/* Reads what lies in pages, too: how a packet is kept in memory is its sender's choice. */
static __always_inline long kpf_load(struct __sk_buff *skb, u32 offset, void *to, u32 size)
{
    return bpf_skb_load_bytes(skb, offset, to, size);
}

static __always_inline int kpf_is_icmp(u8 protocol)
{
    return protocol == KPF_ICMP || protocol == KPF_ICMPV6;
}

static __always_inline int kpf_protocol_has_ports(u8 protocol)
{
    return protocol == KPF_TCP || protocol == KPF_UDP || protocol == KPF_SCTP || protocol == KPF_UDPLITE;
}

static __always_inline void kpf_map_ipv4(u32 out[4], u32 address)
{
    out[0] = 0;
    out[1] = 0;
    out[2] = bpf_htonl(0xffff);
    out[3] = address;
}

static __always_inline int kpf_same_address(const u32 a[4], const u32 b[4])
{
    return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

static __always_inline int kpf_is_unspecified(const u32 a[4])
{
    return !a[0] && !a[1] && ((!a[2] && !a[3]) || (a[2] == bpf_htonl(0xffff) && !a[3]));
}

/* 1 or 0, without a branch: the verifier would walk all that follows once for each. */
static __always_inline u32 kpf_is_ipv4(const u32 a[4])
{
    u64 other = (u64)a[0] | a[1] | (a[2] ^ bpf_htonl(0xffff));

    asm volatile("" : "+r"(other)); /* else LLVM makes a branch of it */
    return (other - 1) >> 63;
}

/* 127.0.0.0/8 and ::1. */
static __always_inline int kpf_is_loopback(const u32 a[4])
{
    if (kpf_is_ipv4(a))
        return (bpf_ntohl(a[3]) >> 24) == 127;
    return !a[0] && !a[1] && !a[2] && a[3] == bpf_htonl(1);
}

/* IPv4 header (RFC 791), of which 20 bytes were read. Fills addresses, protocol, and where the transport begins. */
static __always_inline void kpf_read_ipv4(const u8 header[20], u32 source[4], u32 destination[4], u8 *protocol,
                                          struct kpf_packet *packet)
{
    u32 address, size;

    __builtin_memcpy(&address, header + 12, 4);
    kpf_map_ipv4(source, address);
    __builtin_memcpy(&address, header + 16, 4);
    kpf_map_ipv4(destination, address);
    *protocol = header[9];
    size = (header[0] & 15) * 4;
    packet->transport = packet->network + size;
    if (size < 20 || (header[6] & 0x1f) || header[7])
        packet->transport = 0; /* a later fragment, or nonsense */
}

/* IPv6 header and its extensions (RFC 8200); the first half of the header was read. */
static __always_inline int kpf_read_ipv6(struct __sk_buff *skb, u8 header[40], u32 source[4], u32 destination[4],
                                         u8 *protocol, u8 *hop_limit, struct kpf_packet *packet)
{
    u8 next, extension[8];
    u32 offset = packet->network + 40;
    int i, read = 0;

    if (kpf_load(skb, packet->network + 20, header + 20, 20))
        return -1;
    __builtin_memcpy(source, header + 8, 16);
    __builtin_memcpy(destination, header + 24, 16);
    *hop_limit = header[7];
    next = header[6];
    packet->transport = 0;
#pragma unroll
    for (i = 0; i < KPF_EXTENSIONS; i++) {
        if (next != 0 && next != 43 && next != 44 && next != 51 && next != 60 && next != 135) {
            packet->transport = offset;
            read = 1;
            break;
        }
        if (kpf_load(skb, offset, extension, sizeof(extension))) {
            read = 1;
            break;
        }
        if (next == 44 && ((extension[2] << 8 | extension[3]) & 0xfff8)) {
            next = extension[0];
            read = 1;
            break; /* a later fragment */
        }
        if (next == 51)
            offset += (extension[1] + 2) * 4;
        else if (next == 44)
            offset += 8;
        else
            offset += (extension[1] + 1) * 8;
        next = extension[0];
    }
    if (!read)
        return -1; /* more headers than anybody has a use for: else they would hide a protocol from its rules */
    *protocol = next;
    return 0;
}

static __always_inline void kpf_read_transport(struct __sk_buff *skb, struct kpf_flow *flow,
                                               struct kpf_packet *packet, u8 hop_limit, u8 *bytes)
{
    int whole;

    if (!packet->transport)
        return;
    if (kpf_protocol_has_ports(flow->protocol)) {
        whole = flow->protocol == KPF_TCP && !kpf_load(skb, packet->transport, bytes, 14);
        if (!whole && kpf_load(skb, packet->transport, bytes, 4))
            return;
        flow->local_port = bytes[0] << 8 | bytes[1];
        flow->remote_port = bytes[2] << 8 | bytes[3];
        flow->known |= KPF_HAS_PORTS;
        if (whole) {
            packet->sequence = bytes[6] << 8 | bytes[7];
            packet->tcp_flags = bytes[13];
        }
    } else if (kpf_is_icmp(flow->protocol)) {
        if (kpf_load(skb, packet->transport, bytes, 8))
            return;
        packet->icmp_type = bytes[0];
        packet->icmp_id = bytes[4] << 8 | bytes[5];
        flow->icmp = packet->icmp_type;
        if (flow->protocol == KPF_ICMPV6)
            flow->icmp += hop_limit == 255 ? 256 : 512;
    }
}

/* Makes of what goes out what comes in, where `in` is all ones and not 0. */
static __always_inline void kpf_turn(struct kpf_flow *flow, u32 in)
{
    u32 i, other;

#pragma unroll
    for (i = 0; i < 4; i++) {
        other = (flow->local[i] ^ flow->remote[i]) & in;
        flow->local[i] ^= other;
        flow->remote[i] ^= other;
    }
    other = (flow->local_port ^ flow->remote_port) & in;
    flow->local_port ^= other;
    flow->remote_port ^= other;
}

/*
 * Fills the flow's points and protocol; its direction is the packet's until the caller knows the initiator. Read as if it
 * went out, and then turned: a branch on the direction would have the verifier walk everything twice. `room` is for
 * headers as they are in the packet.
 */
static __always_inline int kpf_read_packet(struct __sk_buff *skb, struct kpf_flow *flow, struct kpf_packet *packet,
                                           u64 room[KPF_HEADER_WORDS], int out)
{
    u8 hop_limit = 0, *header = (u8 *)room;
    u64 nought = kpf_nought(&skb->len);
    u32 i;

    if (kpf_load(skb, packet->network, header, 20))
        return -1;
    if (header[0] >> 4 == 4) {
        kpf_read_ipv4(header, flow->local, flow->remote, &flow->protocol, packet);
    } else if (header[0] >> 4 == 6) {
        if (kpf_read_ipv6(skb, header, flow->local, flow->remote, &flow->protocol, &hop_limit, packet))
            return -1;
    } else {
        return -1;
    }
    flow->direction = out;
    flow->ifindex = skb->ifindex;
    flow->known = KPF_KNOWS_ALL;
    flow->protocol = kpf_opaque(flow->protocol ^ nought);
    packet->transport = kpf_opaque(packet->transport ^ nought);
    hop_limit = kpf_opaque(hop_limit ^ nought);
    kpf_read_transport(skb, flow, packet, hop_limit, header);
    flow->known = kpf_opaque(flow->known ^ nought);
    flow->local_port = kpf_opaque(flow->local_port ^ nought);
    flow->remote_port = kpf_opaque(flow->remote_port ^ nought);
    flow->icmp = kpf_opaque(flow->icmp ^ nought);
    packet->sequence = kpf_opaque(packet->sequence ^ nought);
    packet->tcp_flags = kpf_opaque(packet->tcp_flags ^ nought);
    packet->icmp_type = kpf_opaque(packet->icmp_type ^ nought);
    packet->icmp_id = kpf_opaque(packet->icmp_id ^ nought);
#pragma unroll
    for (i = 0; i < KPF_HEADER_WORDS; i++)
        ((volatile u64 *)room)[i] = nought; /* what was read differs by the way here */
    kpf_turn(flow, out - 1);
    return 0;
}

static __always_inline int kpf_is_echo_request(const struct kpf_flow *flow, u8 type)
{
    return flow->protocol == KPF_ICMP ? type == 8 : type == 128;
}

static __always_inline int kpf_is_echo(const struct kpf_flow *flow, u8 type)
{
    return flow->protocol == KPF_ICMP ? type == 8 || type == 0 : type == 128 || type == 129;
}

/* Errors about another packet: unreachable, quench, time exceeded, parameter problem; ICMPv6 1-4. */
static __always_inline int kpf_is_icmp_error(const struct kpf_flow *flow, u8 type)
{
    if (flow->protocol == KPF_ICMP)
        return type == 3 || type == 4 || type == 11 || type == 12;
    return flow->protocol == KPF_ICMPV6 && type >= 1 && type <= 4;
}
