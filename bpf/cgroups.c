/*
 * Cgroups by path: a restarted unit gets a new cgroup, which must be the policy's before its first packet. A mark stands
 * for a path that the policy names; a cgroup has that of the nearest such path above it, itself included.
 */
static __always_inline u64 kpf_cgroup_id(u64 cgroup)
{
    return kpf_read_pointer(kpf_read_pointer(cgroup, KPF_BTF_CGROUP_KN), KPF_BTF_KERNFS_NODE_ID);
}

/* Version 2's hierarchy is number 0; the ids of others mean other cgroups. */
static __always_inline int kpf_is_version_2(u64 cgroup)
{
    u64 root = kpf_read_pointer(cgroup, KPF_BTF_CGROUP_ROOT);

    return root && kpf_read_u32(root, KPF_BTF_CGROUP_ROOT_HIERARCHY_ID) == 0;
}

/* cgroup_mkdir(cgroup, path) */
KPF_SOCKETS_PROGRAM kpf_cgroup_made(struct bpf_raw_tracepoint_args *ctx)
{
    u64 cgroup = ctx->args[0], id, parent;
    struct kpf_path *path;
    u64 *mark = NULL, value;

    if (!kpf_is_version_2(cgroup))
        return 0;
    id = kpf_cgroup_id(cgroup);
    path = kpf_read_path(ctx->args[1]);
    if (path)
        mark = cgroup_paths.lookup(path);
    if (!mark) { /* self is the first member of a cgroup, so its parent's address is the parent's */
        parent = kpf_cgroup_id(kpf_read_pointer(cgroup, KPF_BTF_CGROUP_SUBSYS_STATE_PARENT));
        mark = cgroup_marks.lookup(&parent);
    }
    if (!mark)
        return 0;
    value = *mark;
    cgroup_marks.update(&id, &value);
    return 0;
}

/* cgroup_rmdir(cgroup, path) */
KPF_SOCKETS_PROGRAM kpf_cgroup_gone(struct bpf_raw_tracepoint_args *ctx)
{
    u64 cgroup = ctx->args[0], id;

    if (!kpf_is_version_2(cgroup))
        return 0;
    id = kpf_cgroup_id(cgroup);
    cgroup_marks.delete(&id);
    return 0;
}
