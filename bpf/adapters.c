/*
 * What no socket owns, at the adapters (tc, clsact): what the kernel answers by itself, packets to closed ports,
 * tunnels, and frames of packet sockets. TCP and UDP of sockets stay with the socket hooks. Adapters are those of
 * the namespace of `up`. Return: go on (to the next filter), or drop.
 */
#define KPF_GO_ON (-1) /* TC_ACT_UNSPEC */
#define KPF_DROP 2     /* TC_ACT_SHOT */
#define KPF_FAMILY_PACKET 17
#define KPF_IPIP 4
#define KPF_IGMP 2
#define KPF_6IN4 41
#define KPF_GRE 47
#define KPF_ESP 50
#define KPF_AH 51
#define KPF_CURRENT_NAMESPACE (-1)
#define KPF_TAGS 4         /* VLAN tags followed at most; the kernel takes any number of those for network 0 */
#define KPF_IP_FRAME 1
#define KPF_OTHER_FRAME 0  /* ARP and the like: no flow */
#define KPF_ODD_FRAME (-1) /* more tags than anybody has a use for, or cut off */

/* Whether frames of the packet's adapter begin with an Ethernet header (ARPHRD_ETHER, ARPHRD_LOOPBACK). */
static __always_inline int kpf_is_ethernet(struct __sk_buff *skb)
{
    u64 packet = 0, device = 0;
    u16 type = 0;

    bpf_probe_read_kernel(&packet, sizeof(packet), &skb); /* as a number: arithmetic on packets is refused */
    bpf_probe_read_kernel(&device, sizeof(device), (void *)(packet + KPF_BTF_SK_BUFF_DEV));
    bpf_probe_read_kernel(&type, sizeof(type), (void *)(device + KPF_BTF_NET_DEVICE_TYPE));
    return type == 1 || type == 772;
}

/* Where the kernel says that the network header begins, from the start of the packet's bytes. */
static __always_inline u32 kpf_network_offset(struct __sk_buff *skb)
{
    u64 packet = 0, head = 0, data = 0;
    u16 network = 0;

    bpf_probe_read_kernel(&packet, sizeof(packet), &skb);
    bpf_probe_read_kernel(&head, sizeof(head), (void *)(packet + KPF_BTF_SK_BUFF_HEAD));
    bpf_probe_read_kernel(&data, sizeof(data), (void *)(packet + KPF_BTF_SK_BUFF_DATA));
    bpf_probe_read_kernel(&network, sizeof(network), (void *)(packet + KPF_BTF_SK_BUFF_NETWORK_HEADER));
    return network - (u32)(data - head);
}

/*
 * Finds the network header as who receives the frame will: by the type in the frame, not by what its sender told the
 * kernel. Returns what kind of frame it is.
 */
static __always_inline int kpf_read_frame(struct __sk_buff *skb, struct kpf_packet *packet)
{
    u8 type[2], version = 0;
    u32 at = 12, i;

    if (!kpf_is_ethernet(skb)) { /* nothing in the frame tells its type, but how the packet begins */
        packet->network = kpf_network_offset(skb);
        kpf_load(skb, packet->network, &version, 1);
        return version >> 4 == 4 || version >> 4 == 6 ? KPF_IP_FRAME : KPF_OTHER_FRAME;
    }
#pragma unroll
    for (i = 0; i <= KPF_TAGS; i++) {
        if (kpf_load(skb, at, type, sizeof(type)))
            return KPF_ODD_FRAME;
        if ((type[0] == 0x08 && type[1] == 0x00) || (type[0] == 0x86 && type[1] == 0xdd)) {
            packet->network = at + 2;
            return KPF_IP_FRAME;
        }
        if (!(type[0] == 0x81 && type[1] == 0x00) && !(type[0] == 0x88 && type[1] == 0xa8))
            return KPF_OTHER_FRAME;
        at += 4;
    }
    return KPF_ODD_FRAME;
}

/* Fills flow and packet from a frame. 1: judge it. Else `verdict` is what to return. */
static __always_inline int kpf_read_adapter(struct __sk_buff *skb, struct kpf_event *event, struct kpf_packet *packet,
                                            u64 *header, int out, int *verdict)
{
    int frame = kpf_read_frame(skb, packet);

    *verdict = KPF_GO_ON;
    if (frame == KPF_OTHER_FRAME)
        return 0;
    if (frame == KPF_IP_FRAME && !kpf_read_packet(skb, &event->flow, packet, header, out))
        return 1;
    kpf_count_default(KPF_DEFAULT_NO_IP);
    *verdict = KPF_DROP;
    return 0;
}

static __always_inline int kpf_is_kernels_protocol(u8 protocol)
{
    return protocol == KPF_IGMP || protocol == KPF_IPIP || protocol == KPF_6IN4 || protocol == KPF_GRE ||
           protocol == KPF_ESP || protocol == KPF_AH;
}

/* Whether a socket of this namespace takes packets of this flow. */
static __always_inline int kpf_has_socket(struct __sk_buff *skb, const struct kpf_flow *flow)
{
    struct bpf_sock_tuple tuple = {};
    struct bpf_sock *sk;
    u32 size;

    if (kpf_is_ipv4(flow->remote)) {
        tuple.ipv4.saddr = flow->remote[3];
        tuple.ipv4.daddr = flow->local[3];
        tuple.ipv4.sport = bpf_htons(flow->remote_port);
        tuple.ipv4.dport = bpf_htons(flow->local_port);
        size = sizeof(tuple.ipv4);
    } else {
        __builtin_memcpy(tuple.ipv6.saddr, flow->remote, 16);
        __builtin_memcpy(tuple.ipv6.daddr, flow->local, 16);
        tuple.ipv6.sport = bpf_htons(flow->remote_port);
        tuple.ipv6.dport = bpf_htons(flow->local_port);
        size = sizeof(tuple.ipv6);
    }
    if (flow->protocol == KPF_TCP)
        sk = bpf_skc_lookup_tcp(skb, &tuple, size, KPF_CURRENT_NAMESPACE, 0);
    else
        sk = bpf_sk_lookup_udp(skb, &tuple, size, KPF_CURRENT_NAMESPACE, 0);
    if (!sk)
        return 0;
    bpf_sk_release(sk);
    return 1;
}

/* Whether this host is meant: packets that it only passes on are not judged. */
static __always_inline int kpf_is_for_us(const struct kpf_flow *flow, u64 active_word)
{
    struct kpf_case this = {.numbers = {.slot = KPF_ACTIVE_SLOT(active_word)}};
    void *images_of = images.lookup((int *)&this.numbers.slot);
    const struct kpf_address *local = NULL;
    struct kpf_named name;
    u32 zero = 0;

    if (!images_of)
        return 0;
    this.image = bpf_map_lookup_elem(images_of, &zero);
    if (this.image)
        local = kpf_find_address(&this, flow->local, active_word, &name);
    return local && (local->flags | name.flags) & (KPF_ADDRESS_OWN | KPF_ADDRESS_GROUP | KPF_ADDRESS_DIRECTED);
}

/* Whether a packet that came in is the kernel's to answer. */
static __always_inline int kpf_is_the_kernels(struct __sk_buff *skb, const struct kpf_flow *flow,
                                              const struct kpf_packet *packet)
{
    if (flow->protocol == KPF_TCP || flow->protocol == KPF_UDP)
        return flow->known & KPF_HAS_PORTS && !kpf_has_socket(skb, flow);
    if (kpf_is_icmp(flow->protocol)) /* an echo reply is some socket's, an error belongs to a flow: state */
        return packet->transport && packet->icmp_type != (flow->protocol == KPF_ICMP ? 0 : 129) &&
               !kpf_is_icmp_error(flow, packet->icmp_type);
    return kpf_is_kernels_protocol(flow->protocol);
}

/* Whether the sending socket lies in the firewalled cgroup. */
static __always_inline int kpf_is_within(struct __sk_buff *skb, const struct kpf_reach *here)
{
    return bpf_skb_ancestor_cgroup_id(skb, here->level) == here->cgroup;
}

/* Fills in who sends or receives a flow that has no socket. 0: it is the kernel's answer to what was judged. */
static __always_inline int kpf_own_flow(struct __sk_buff *skb, struct kpf_event *event, const struct kpf_packet *packet,
                                        int out, int frame)
{
    if (frame) {
        kpf_identify_current(&event->flow.application, &event->flow.component, &event->pid, &event->flow.uid);
        event->flow.cgroup = bpf_skb_cgroup_id(skb);
        return 1;
    }
    event->flow.application.generation = 1; /* the kernel itself */
    return !out || !kpf_is_kernel_answer(&event->flow, packet);
}

/* Counts and tells of a judged flow: what to return. */
static __always_inline int kpf_end_frame(struct __sk_buff *skb, struct kpf_event *event, u16 id,
                                         const struct kpf_rule *rule, struct kpf_flow_key *key, u8 hook)
{
    int new_flow;

    __builtin_memset(key, 0, sizeof(*key));
    kpf_flow_key_of(key, &event->flow, 0, id);
    new_flow = kpf_is_new(key, rule, event->active);
    kpf_count(rule, 1, skb->len, new_flow);
    if (new_flow)
        kpf_report(skb, event, rule, hook);
    return rule->action == KPF_PERMIT ? KPF_GO_ON : KPF_DROP;
}

#define KPF_FRAME 2 /* in the control block, beside the direction: a packet socket's */

/* Judges a flow that has no socket, as the packet's control block says; repeats within 30 s are the same flow. */
KPF_ADAPTERS_PROGRAM kpf_judge_frame(struct __sk_buff *skb)
{
    struct kpf_event event = {.active = kpf_active()};
    struct kpf_packet packet = {};
    struct kpf_rule rule = {};
    union kpf_work work;
    u32 zero = 0, how = skb->cb[0];
    struct kpf_reach *here = reach.lookup(&zero);
    int out = how & 1, verdict;
    u64 done;

    if (!event.active || !here)
        return KPF_GO_ON; /* KPF_DEFAULT_NO_IMAGE */
    if (!kpf_read_adapter(skb, &event, &packet, work.header, out, &verdict))
        return verdict;
    event.flow.netns_cookie = here->netns_cookie;
    if (!kpf_own_flow(skb, &event, &packet, out, how & KPF_FRAME))
        return KPF_GO_ON;
    kpf_forget(&event, sizeof(event));
    done = kpf_resume_search(skb, event.active);
    if (kpf_classify(&work.match, &event.flow, event.active, &rule, KPF_RUN_CHUNKS, &done) == KPF_UNFINISHED) {
        kpf_leave_search(skb, event.active, done);
        judge_frame.call(skb, 0);
        kpf_broken_image(&rule);
        return KPF_DROP;
    }
    return kpf_end_frame(skb, &event, packet.icmp_id, &rule, &work.flow.key,
                         out ? KPF_HOOK_ADAPTER_EGRESS : KPF_HOOK_ADAPTER_INGRESS);
}

/* Both directions are judged by one program: it is most of what the verifier has to walk. */
static __always_inline int kpf_judge_at_adapter(struct __sk_buff *skb, u32 how)
{
    skb->cb[0] = how;
    judge_frame.call(skb, 0);
    kpf_count_default(KPF_DEFAULT_BROKEN_IMAGE);
    return KPF_DROP;
}

KPF_ADAPTERS_PROGRAM kpf_adapter_ingress(struct __sk_buff *skb)
{
    struct kpf_event event = {.active = kpf_active()};
    struct kpf_packet packet = {};
    u64 header[KPF_HEADER_WORDS];
    int verdict;

    if (!event.active)
        return KPF_GO_ON; /* KPF_DEFAULT_NO_IMAGE */
    if (!kpf_read_adapter(skb, &event, &packet, header, 0, &verdict))
        return verdict;
    if (!kpf_is_for_us(&event.flow, event.active) || !kpf_is_the_kernels(skb, &event.flow, &packet))
        return KPF_GO_ON;
    return kpf_judge_at_adapter(skb, KPF_IN);
}

KPF_ADAPTERS_PROGRAM kpf_adapter_egress(struct __sk_buff *skb)
{
    u32 zero = 0;
    struct kpf_reach *here = reach.lookup(&zero);
    struct bpf_sock *sk = skb->sk;

    if (!here)
        return KPF_GO_ON; /* KPF_DEFAULT_NO_IMAGE */
    if (sk && sk->family == KPF_FAMILY_PACKET)
        return kpf_is_within(skb, here) ? kpf_judge_at_adapter(skb, KPF_OUT | KPF_FRAME) : KPF_GO_ON;
    if (sk || skb->ingress_ifindex)
        return KPF_GO_ON; /* a socket's: the socket hooks have judged it; or passed on */
    return kpf_judge_at_adapter(skb, KPF_OUT);
}
