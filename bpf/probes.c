/*
 * Programs that user space runs on purpose (BPF_PROG_TEST_RUN of raw tracepoints that are never attached): what
 * the kernel takes an open file for, and what the classifier says of a flow.
 */

/* args[0]: a descriptor of the caller; the answer is in `identified`. */
KPF_SOCKETS_PROGRAM kpf_identify(struct bpf_raw_tracepoint_args *ctx)
{
    u64 files = kpf_read_pointer(bpf_get_current_task(), KPF_BTF_TASK_STRUCT_FILES);
    u64 table = kpf_read_pointer(kpf_read_pointer(files, KPF_BTF_FILES_STRUCT_FDT), KPF_BTF_FDTABLE_FD);
    struct kpf_file key = {};
    u32 zero = 0;

    if (table)
        kpf_identify_file(&key, kpf_read_pointer(table, (u32)ctx->args[0] * 8));
    identified.update(&zero, &key);
    return 0;
}

/* Makes the caller's mount namespace and root folder the ones that the policy's paths are meant in. */
KPF_SOCKETS_PROGRAM kpf_settle(struct bpf_raw_tracepoint_args *ctx)
{
    u64 task = bpf_get_current_task();
    u64 root = kpf_read_pointer(task, KPF_BTF_TASK_STRUCT_FS);
    struct kpf_home here = {};
    u32 zero = 0;

    here.mount_namespace =
        kpf_read_pointer(kpf_read_pointer(task, KPF_BTF_TASK_STRUCT_NSPROXY), KPF_BTF_NSPROXY_MNT_NS);
    here.mount = kpf_read_pointer(root, KPF_BTF_FS_STRUCT_ROOT + KPF_BTF_PATH_MNT);
    here.dentry = kpf_read_pointer(root, KPF_BTF_FS_STRUCT_ROOT + KPF_BTF_PATH_DENTRY);
    home.update(&zero, &here);
    return 0;
}

/*
 * The packet's mark: index of a flow in `probes`, which gets the verdict. (Loaded as a tc program: tracepoints may not have
 * maps with locks.)
 */
KPF_PROBES_PROGRAM kpf_probe(struct __sk_buff *skb)
{
    u32 index = skb->mark;
    struct kpf_probe *probe = probes.lookup(&index);
    struct kpf_case this;
    struct kpf_flow flow;
    struct kpf_rule rule = {};
    u64 done = 0;

    if (!probe)
        return 1;
    flow = probe->flow;
    kpf_classify(&this, &flow, probe->active, &rule, KPF_CHUNKS, &done);
    probe->rule = rule;
    probe->ok = 1;
    return 0;
}

/* The same, asking what an early hook would say. */
KPF_PROBES_PROGRAM kpf_probe_early(struct __sk_buff *skb)
{
    u32 index = skb->mark;
    struct kpf_probe *probe = probes.lookup(&index);
    struct kpf_case this = {};
    struct kpf_flow flow;
    struct kpf_rule rule = {};

    if (!probe)
        return 1;
    flow = probe->flow;
    if (kpf_open_case(&this, &flow, probe->active))
        return 1;
    probe->early = kpf_classify_early(&this, probe->active, &rule);
    probe->rule = rule;
    probe->ok = 1;
    return 0;
}

/* For measuring: the flows in `probes` in turn, as many as the packet's mark says. Writes nothing but the turn. */
KPF_PROBES_PROGRAM kpf_measure(struct __sk_buff *skb)
{
    u32 index = skb->cb[0];
    struct kpf_probe *probe;
    struct kpf_case this;
    struct kpf_flow flow;
    struct kpf_rule rule = {};
    u64 done = 0;

    skb->cb[0] = index + 1 < skb->mark ? index + 1 : 0;
    probe = probes.lookup(&index);
    if (!probe)
        return 0;
    flow = probe->flow;
    kpf_classify(&this, &flow, probe->active, &rule, KPF_CHUNKS, &done);
    return rule.counter;
}

/* The same without the classifier: what is to be subtracted. */
KPF_PROBES_PROGRAM kpf_measure_nothing(struct __sk_buff *skb)
{
    u32 index = skb->cb[0];
    struct kpf_probe *probe;
    struct kpf_flow flow;

    skb->cb[0] = index + 1 < skb->mark ? index + 1 : 0;
    probe = probes.lookup(&index);
    if (!probe)
        return 0;
    flow = probe->flow;
    kpf_forget(&flow, sizeof(flow));
    return flow.remote[3] ^ flow.local_port;
}

/*
 * For measuring, run many times on one packet (loaded as cgroup_skb): what the packet hooks do with a packet of a judged
 * socket. The socket is one that the kernel makes for the test; its first packet is judged to pass.
 */
KPF_PROBES_PROGRAM kpf_measure_egress(struct __sk_buff *skb)
{
    struct kpf_rule rule = {.action = KPF_PERMIT};
    struct kpf_flow_state state = {.rule = rule, .initiator = KPF_INITIATOR_OUT};
    struct kpf_flow_memo *memo;
    struct bpf_sock *sk = skb->sk;
    struct kpf_identity *who;
    struct kpf_header header;
    struct kpf_flow flow = {};
    u64 active_word = kpf_active(), remote[2];

    if (kpf_is_plainly_known(skb, 1, &rule) || kpf_is_known(skb, active_word, 1, &rule)) {
        kpf_count(&rule, 1, skb->len, 0);
        return rule.action == KPF_PERMIT;
    }
    if (sk)
        sk = bpf_sk_fullsock(sk);
    who = sk ? identity.sk_storage_get(sk, 0, BPF_SK_STORAGE_GET_F_CREATE) : NULL;
    if (!who || kpf_peek(skb, 1, &header))
        return 0;
    kpf_flow_of(&flow, &header);
    flow.ifindex = skb->ifindex;
    kpf_write_cache(who, &flow, active_word, &rule, KPF_PASSES_IN | KPF_PASSES_OUT);
    kpf_remote_of(remote, &header);
    memo = kpf_flow_memo_of(who->cookie, remote, header.ports >> 16);
    if (memo)
        kpf_keep_flow(memo, &flow, active_word, who->cookie, &state);
    return 1;
}

/* What is to be subtracted from that. */
KPF_PROBES_PROGRAM kpf_measure_nothing_skb(struct __sk_buff *skb)
{
    return 1;
}
