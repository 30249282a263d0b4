package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// NodeIP is the node's address as pods see it.
const NodeIP = "10.244.0.1"

// entered marks the process that runs inside the node's namespaces.
const entered = "WAYPOINT_LAB_NODE"

// Enter makes sure that the process runs in network and mount namespaces of its own. The
// first time it calls prepare, runs the same command again inside new ones, passes signals
// on and exits with its exit code; inside it sets up the node's network and returns.
//
// prepare has the machine's network, which nothing has inside: what is downloaded is
// downloaded there.
func Enter(prepare func() error) error {
	if os.Getenv(entered) == "" {
		if err := prepare(); err != nil {
			return err
		}
		code, err := reexec()
		if err != nil {
			return err
		}
		os.Exit(code)
	}
	// What is mounted from here on is the lab's alone.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("sandbox: private mounts: %w", err)
	}
	return setUpNode()
}

func reexec() (int, error) {
	if os.Geteuid() != 0 {
		return 0, errors.New("sandbox: root is needed, for namespaces and packet redirection")
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), entered+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	// Pdeathsig follows the thread that started the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	sigs := make(chan os.Signal, 8)
	signal.Notify(sigs, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(sigs)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("sandbox: new namespaces: %w", err)
	}
	go func() {
		for s := range sigs {
			_ = cmd.Process.Signal(s)
		}
	}()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal()), nil // as a shell reports it
	}
	return cmd.ProcessState.ExitCode(), nil
}

// setUpNode gives the node its addresses and lets it route between pods.
func setUpNode() error {
	var err error
	if home, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("sandbox: node: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("sandbox: node: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("sandbox: node: %w", err)
	}
	// Not every kernel has dummy links; the loopback device takes a second address as well.
	addr, err := netlink.ParseAddr(NodeIP + "/32")
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(lo, addr); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("sandbox: node address: %w", err)
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
}
