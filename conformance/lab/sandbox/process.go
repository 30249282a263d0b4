package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Mount shows a file or folder of the machine inside a container.
type Mount struct {
	From, To string
	ReadOnly bool
}

// Spec describes a container.
type Spec struct {
	// Root is an empty folder that the root file system is mounted on.
	Root     string
	Hostname string
	// Files are written into the root file system, by absolute path.
	Files map[string]string
	// Mounts come after Files, in order.
	Mounts []Mount
	Args   []string // Args[0] is an absolute path inside the container
	Env    []string
	Dir    string // default "/"
	// UID, GID and Groups are those of the process.
	UID, GID uint32
	Groups   []uint32
	// Output takes what the process writes; it must not be nil.
	Output *os.File
}

// Process is a running container.
type Process struct {
	// Fixed after Start.
	net  *Net
	spec Spec
	cmd  *exec.Cmd
	done chan struct{}

	err error // written before done is closed
}

// Start runs a container in a pod's network.
func Start(n *Net, s Spec) (*Process, error) {
	p := &Process{net: n, spec: s, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// The thread is never given back: its file system is the container's.
		runtime.LockOSThread()
		if err := p.start(); err != nil {
			started <- err
			return
		}
		started <- nil
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("sandbox: %s: %w", strings.Join(s.Args, " "), err)
	}
	return p, nil
}

func (p *Process) start() error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWUTS); err != nil {
		return fmt.Errorf("new namespaces: %w", err)
	}
	if err := unix.Setns(p.net.fd, unix.CLONE_NEWNET); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(p.spec.Hostname)); err != nil {
		return err
	}
	if err := p.spec.mountRoot(); err != nil {
		return err
	}
	p.cmd = p.command(context.Background(), p.spec.Args, p.spec.Env)
	p.cmd.Stdout, p.cmd.Stderr = p.spec.Output, p.spec.Output
	return p.cmd.Start()
}

func (p *Process) command(ctx context.Context, args, env []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = env
	cmd.Dir = p.spec.Dir
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	// LookPath looked on this side of the chroot.
	cmd.Path, cmd.Err = args[0], nil
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Chroot: p.spec.Root, Setpgid: true, Pdeathsig: syscall.SIGKILL,
		Credential: &syscall.Credential{Uid: p.spec.UID, Gid: p.spec.GID, Groups: p.spec.Groups},
	}
	return cmd
}

// devices are those of a container that static binaries ask for.
var devices = []string{"/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"}

func (s *Spec) mountRoot() error {
	if err := os.MkdirAll(s.Root, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", s.Root, "tmpfs", unix.MS_NOSUID, "mode=0755"); err != nil {
		return fmt.Errorf("root: %w", err)
	}
	for _, d := range []string{"dev", "etc", "proc", "run", "sys", "tmp", "var"} {
		if err := os.Mkdir(filepath.Join(s.Root, d), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(s.Root, "tmp"), 0o1777); err != nil {
		return err
	}
	if err := os.Symlink("../run", filepath.Join(s.Root, "var/run")); err != nil {
		return err
	}
	for name, data := range s.Files {
		at := filepath.Join(s.Root, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(at, []byte(data), 0o644); err != nil {
			return err
		}
	}
	mounts := []Mount{{From: "/proc", To: "/proc"}}
	for _, d := range devices {
		mounts = append(mounts, Mount{From: d, To: d})
	}
	for _, m := range append(mounts, s.Mounts...) {
		if err := m.bind(s.Root); err != nil {
			return fmt.Errorf("mount %s: %w", m.To, err)
		}
	}
	return nil
}

func (m Mount) bind(root string) error {
	st, err := os.Stat(m.From)
	if err != nil {
		return err
	}
	to := filepath.Join(root, m.To)
	if st.IsDir() {
		err = os.MkdirAll(to, 0o755)
	} else {
		if err = os.MkdirAll(filepath.Dir(to), 0o755); err == nil {
			var f *os.File
			if f, err = os.OpenFile(to, os.O_CREATE|os.O_RDONLY, 0o644); err == nil {
				err = f.Close()
			}
		}
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(m.From, to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if !m.ReadOnly {
		return nil
	}
	return unix.Mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// ExitCode is that of a process that has ended, 128 and the signal for one that was killed.
func (p *Process) ExitCode() int {
	<-p.done
	return exitCode(p.cmd.ProcessState)
}

func exitCode(s *os.ProcessState) int {
	if ws, ok := s.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return s.ExitCode()
}

// Stop sends SIGTERM, waits for the grace period and kills what is left. It returns when
// the process has ended.
func (p *Process) Stop(grace time.Duration) {
	if grace > 0 {
		p.Signal(syscall.SIGTERM)
		t := time.NewTimer(grace)
		defer t.Stop()
		select {
		case <-p.done:
		case <-t.C:
		}
	}
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// Signal reaches the process group, so that children get it as well.
func (p *Process) Signal(s syscall.Signal) { _ = syscall.Kill(-p.cmd.Process.Pid, s) }

// Streams are the ends of a command run inside a container; nil ones are /dev/null.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// ErrEnded means that the container ended before the command ran.
var ErrEnded = errors.New("sandbox: the container has ended")

// Exec runs a command inside the container and returns its exit code.
func (p *Process) Exec(ctx context.Context, args, env []string, s Streams) (code int, err error) {
	select {
	case <-p.done:
		return 0, ErrEnded
	default:
	}
	cmd := p.command(ctx, args, env)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.In, s.Out, s.Err
	// Standard input that nobody closes must not hold the result back.
	cmd.WaitDelay = time.Second
	err = onThread(func() error {
		if err := p.enter(); err != nil {
			return err
		}
		return cmd.Run()
	})
	var exit *exec.ExitError
	if errors.As(err, &exit) || errors.Is(err, exec.ErrWaitDelay) {
		return exitCode(cmd.ProcessState), nil
	}
	return 0, err
}

// enter moves the thread into the container's namespaces.
func (p *Process) enter() error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	for _, ns := range []struct {
		name string
		flag int
	}{{"net", unix.CLONE_NEWNET}, {"uts", unix.CLONE_NEWUTS}, {"mnt", unix.CLONE_NEWNS}} {
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/%s", p.cmd.Process.Pid, ns.name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = unix.Setns(fd, ns.flag)
		_ = unix.Close(fd)
		if err != nil {
			return fmt.Errorf("enter %s namespace: %w", ns.name, err)
		}
	}
	return nil
}
