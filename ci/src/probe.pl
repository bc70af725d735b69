#!/usr/bin/perl
# Tries everything that would give a recipe a report of the machine's TEE, or begat's memory. A line for each way that is
# open; ways that are closed say nothing. Perl, because every Debian root and every tool tree has it.
use strict;
use Fcntl;
use Socket;

my ($planted, $name) = @ARGV;    # a device, and an abstract socket
my @open;

# syscall(2) wants variables for pointers.
sub mount {
    my ($kind, $place, $flags) = @_;
    my $source = "none";
    return syscall(165, $source, $place, $kind, $flags, 0) == 0;
}

sub unmount {
    my ($place) = @_;
    return syscall(166, $place, 2) == 0;
}

# Devices: none but those that every program expects.
my %harmless = map { $_ => 1 } qw(console core fd full log mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero);
opendir(my $dev, "/dev") or die "no /dev: $!";
push @open, map { "device /dev/$_" } grep { !/^\.\.?$/ && !$harmless{$_} } sort readdir $dev;
for my $path ($planted, map { "/dev/$_" } qw(sev-guest tdx_guest tpm0 tpmrm0 vsock kvm mem)) {
    push @open, "open $path" if sysopen(my $file, $path, O_RDWR);
}

# The same devices by their numbers: those of memory, of a TPM, and of what was planted.
for my $number ([1, 1], [10, 224], [1, 5]) {
    my $node = "/tmp/node-$$";
    my $made = syscall(133, $node, 0020666, $number->[0] << 8 | $number->[1]) == 0;    # mknod
    push @open, "mknod @$number" if $made && sysopen(my $file, $node, O_RDONLY);
    unlink $node;
}

# File systems of the kernel: those that are there, and those that can be mounted.
for my $path (qw(/sys/kernel/config /sys/kernel/config/tsm /sys/kernel/security /sys/firmware /sys/class)) {
    opendir(my $folder, $path) or next;
    push @open, "list $path" if grep { !/^\.\.?$/ } readdir $folder;
}
my $point = "/tmp/point-$$";
mkdir $point;
for my $kind (qw(configfs devtmpfs proc securityfs sysfs debugfs tracefs)) {
    push @open, "mount $kind" if mount($kind, $point, 0);
    unmount($point);
}
rmdir $point;

# What the kernel lets its root write: programs that it starts outside of every namespace.
for my $path (qw(/proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sysrq-trigger)) {
    push @open, "write $path" if sysopen(my $file, $path, O_WRONLY);
}
mount("none", "/proc/sys", 32 | 4096);    # remount,bind: read-write again
push @open, "write /proc/sys after a remount" if sysopen(my $file, "/proc/sys/kernel/core_pattern", O_WRONLY);
push @open, "unmount /proc/sys" if unmount("/proc/sys");

# The REST API of the guest, sockets of the host, and sockets that no namespace holds.
socket(my $api, PF_INET, SOCK_STREAM, 0) or die "no sockets: $!";
push @open, "connect 127.0.0.1:8006" if connect($api, sockaddr_in(8006, inet_aton("127.0.0.1")));
socket(my $abstract, PF_UNIX, SOCK_STREAM, 0) or die "no sockets: $!";
push @open, "connect \@$name" if connect($abstract, pack("S a*", PF_UNIX, "\0$name"));
push @open, "socket vsock" if socket(my $vsock, 40, SOCK_STREAM, 0);
push @open, "socket vsock through x32" if syscall(0x40000000 | 41, 40, SOCK_STREAM, 0) >= 0;
my $parameters = "\0" x 120;
push @open, "io_uring" if syscall(425, 1, $parameters) >= 0;
push @open, "keyring" if syscall(250, 0, -3, 0) >= 0;    # keyctl, the id of the session's

# The memory of begat: the processes of the sandbox and those before them.
for my $process (map { m{(\d+)$} } glob "/proc/[0-9]*") {
    open(my $line, "<", "/proc/$process/cmdline") or next;
    my $words = join(" ", split /\0/, <$line> // "");
    next unless $words =~ /\bbegat\b|\binside (first|second|third)$/ && $words !~ /probe/;
    for my $file (qw(mem environ maps)) {
        push @open, "$file of $words" if sysopen(my $handle, "/proc/$process/$file", O_RDONLY);
    }
    for my $link (qw(root cwd exe fd/0 fd/1 fd/2)) {
        push @open, "$link of $words" if defined readlink "/proc/$process/$link";
    }
    push @open, "write to the program of $words" if sysopen(my $program, "/proc/$process/exe", O_RDONLY);
    push @open, "trace $words" if syscall(101, 0x4206, $process, 0, 0) == 0;    # PTRACE_SEIZE
}
print "open: $_\n" for @open;
