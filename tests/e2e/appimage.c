/*
 * What an AppImage's runtime does: mounts the file system that is appended to its own file, and becomes a program
 * there. Usage: APPIMAGE MOUNTPOINT PROGRAM ARGUMENTS...; compiled with OFFSET, where the file system begins.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/prctl.h>
#include <sys/vfs.h>

static const long fuse_magic = 0x65735546;

int main(int count, char **words)
{
    char own[4096] = "", inside[4096], offset[32];
    struct statfs found;
    int tries;

    if (count < 3 || readlink("/proc/self/exe", own, sizeof(own) - 1) < 0)
        return 2;
    snprintf(offset, sizeof(offset), "-ooffset=%d", OFFSET);
    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        execlp("squashfuse", "squashfuse", "-f", offset, own, words[1], (char *)NULL);
        _exit(127);
    }
    for (tries = 0; tries < 1000; tries++) {
        if (statfs(words[1], &found) == 0 && found.f_type == fuse_magic)
            break;
        usleep(10000);
    }
    snprintf(inside, sizeof(inside), "%s/%s", words[1], words[2]);
    execv(inside, words + 2);
    perror(inside);
    return 1;
}
