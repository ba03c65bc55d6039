#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs an example and checks what it prints, how it ends and that it leaves no process behind.

    check.py NAME PATH_TO_BINARY
"""
import ctypes
import glob
import os
import tempfile
import pathlib
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

PR_SET_CHILD_SUBREAPER = 36
PATIENCE_S = 10
BATCH = 50

SQUARES = ''.join(f'{n} squared is {n * n}\n' for n in range(1, 11))


class Failed(Exception):
    pass


def check(is_true, what):
    if not is_true:
        raise Failed(what)


def check_text(pattern, text, what):
    match = re.fullmatch(pattern, text)
    check(match, f'{what} is\n{text}\nand should match\n{pattern}')
    return match


def wait_until(condition, what):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        check(time.monotonic() < end, f'waited {PATIENCE_S} s in vain: {what}')
        time.sleep(0.01)


# Processes


def children(pid):
    found = []
    for name in glob.glob(f'/proc/{pid}/task/*/children'):
        try:
            with open(name, encoding='ascii') as file:
                found += [int(child) for child in file.read().split()]
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def descendants(pid):
    found = children(pid)
    for child in list(found):
        found += descendants(child)
    return found


def state(pid):
    try:
        with open(f'/proc/{pid}/stat', encoding='utf-8', errors='replace') as file:
            return file.read().rpartition(')')[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def signal_all(pids, number):
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def zombies(pid):
    return [child for child in children(pid) if state(child) == 'Z']


def become_subreaper():
    """The orphans below this process become its children, so none is overlooked."""
    libc = ctypes.CDLL(None, use_errno=True)
    check(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0, 'cannot become a subreaper')


def reap_orphans():
    """Only when no Popen is running: it takes any child's status."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def check_nobody_left():
    def nobody():
        reap_orphans()
        return not descendants(os.getpid())

    try:
        wait_until(nobody, 'processes to end')
    except Failed:
        left = descendants(os.getpid())
        signal_all(left, signal.SIGKILL)
        raise Failed(f'processes are left: {left}') from None


# Programs that end by themselves


def run(binary, stderr=''):
    with subprocess.Popen([binary], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as program:
        try:
            out, err = program.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            program.kill()
            raise Failed('it does not end') from None
    check(program.returncode == 0, f'it ended with {program.returncode}:\n{out}{err}')
    check_text(stderr, err, 'stderr')
    return out, program.pid


def prints(pattern, stderr=''):
    def test(binary):
        out, _ = run(binary, stderr)
        check_text(pattern, out, 'stdout')
    return test


def prints_in_any_order(lines):
    def test(binary):
        out, _ = run(binary)
        check_text(''.join(sorted(lines)), ''.join(sorted(out.splitlines(True))), 'stdout, sorted,')
    return test


def check_semaphore_limits_downloads(binary):
    out, _ = run(binary)
    lines = out.splitlines()
    active = [set(check_text(r'active:((?: \d)+)', line, 'a line')[1].split()) for line in lines[:-1]]
    check(len(active) == 10, f'stdout is\n{out}')
    check(set.union(*active) == set('0123456789'), f'not all were active:\n{out}')
    check(max(map(len, active)) <= 3, f'more than three at once:\n{out}')
    check_text('3 permits are free', lines[-1], 'the last line')


def check_barrier_tells_of_a_death(binary):
    out, _ = run(binary)
    told = r'the barrier is broken: process (\d+) is needed, and has died'
    match = check_text(
        rf'party 0 \(pid \d+\) ended with 0; it was told: {told}\n'
        r'party 1 \(pid (\d+)\) ended with -9; it was told: nothing\n'
        rf'party 2 \(pid \d+\) ended with 0; it was told: {told}\n'
        'broken: yes\nbroken after a reset: no\n', out, 'stdout')
    check(len(set(match.groups())) == 1, f'the pids differ:\n{out}')


def check_deadlock_is_told(binary):
    """One is told, with the circle, prints the same circle as a list, and lets the other go on."""
    out, _ = run(binary)
    main = r'process \d+ thread \d+ waits for the end of process \d+, for .* s\n'
    out = re.sub(main, '', out)  # if it waits already
    match = check_text(
        r'(\w+): deadlock: this thread waits for lock (\w+), held by process (\d+) \(thread \d+\), '
        r'which waits for lock (\w+), held by process (\d+) \(thread \d+\)\n'
        r'process (\d+) thread \d+ waits for lock (\w+) held by process (\d+) thread \d+, for .* s\n'
        r'lock (\w+) held by process (\d+) thread \d+\n'
        r'lock (\w+) held by process (\d+) thread \d+\n'
        r'(\w+): I yield\n(\w+): I have both\n', out, 'stdout')
    yields, wanted, other, held, self = match.groups()[:5]
    check(match.group(6, 7, 8) == (other, held, self), f'the waiter is not the other one:\n{out}')
    check({match.group(9, 10), match.group(11, 12)} == {(wanted, other), (held, self)},
          f'the holders are not these two:\n{out}')
    check(yields == match[13] and {yields, match[14]} == {'plato', 'kant'}, f'the names are wrong:\n{out}')


def check_workers_print_pids(binary):
    out, pid = run(binary)
    lines = out.splitlines()
    check(len(lines) == 7, f'stdout is\n{out}')
    check_text(f'main: pid {pid}', lines[0], 'the first line')
    pids = set()
    for number, (name, line) in enumerate(zip(('anna', 'bert', 'cleo'), sorted(lines[1:4]))):
        pids.add(check_text(rf'{name}: number {number}, pid (\d+), parent {pid}', line,
                            'a line')[1])
        check_text(f'{name} ended with {10 * number}', lines[4 + number], 'a line')
    check(len(pids) == 3 and str(pid) not in pids, f'the pids are {pids}')


def check_fork_seen_raw(binary):
    out, pid = run(binary)
    child = check_text(
        rf'before: pid {pid}\n'
        rf'child: got 0, pid (\d+), parent {pid}\n'
        rf'parent: got (\d+), pid {pid}\n'
        r'parent: the child ended with 7\n', out, 'stdout')
    check(child[1] == child[2] != str(pid), f'the pids differ:\n{out}')


# Servers


class Server:
    def __init__(self, binary):
        self.program = subprocess.Popen([binary, '0'], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.program.stdout.readline()
        self.pid = self.program.pid
        self.port = int(check_text(r'listening on (\d+)\n', line, 'the first line')[1])

    def connect(self):
        connection = socket.create_connection(('127.0.0.1', self.port), timeout=30)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def end(self, stderr=''):
        self.program.terminate()
        try:
            out, err = self.program.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise Failed('SIGTERM does not end the server') from None
        check(self.program.returncode == 0,
              f'after SIGTERM it ended with {self.program.returncode}:\n{err}')
        check_text(stderr, err, 'stderr')
        check(out == '', f'it has also printed\n{out}')

    def kill(self):
        if self.program.poll() is None:
            self.program.kill()
            self.program.communicate()


def receive(connection, size):
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(min(65536, size - len(data)))
        check(piece, f'the server closed after {len(data)} of {size} bytes')
        data += piece
    return bytes(data)


def exchange(connection, data):
    connection.sendall(data)
    check(receive(connection, len(data)) == data.upper(), f'{data[:40]!r} came back wrong')


def talk(server, number):
    with server.connect() as connection:
        exchange(connection, b'Hello, this is client %d.\n' % number)


def talk_in_pieces(server, number):
    with server.connect() as connection:
        for piece in (b'par', b't', b'ial line %d' % number, b'', b'\nand an', b'other\n'):
            exchange(connection, piece)
            time.sleep(0.002)


def talk_to_the_end(server):
    """All that was sent comes back, though the client has said that it sends no more."""
    with server.connect() as connection:
        connection.sendall(b'the last words')
        connection.shutdown(socket.SHUT_WR)
        check(receive(connection, 14) == b'THE LAST WORDS', 'the last words came back wrong')
        check(connection.recv(1) == b'', 'the server does not close')


def reset(server, number):
    """Close so that the server gets a reset: before it has read, while it reads, or writes."""
    with server.connect() as connection:
        if number % 3 > 0:
            connection.sendall(b'x' * (1 if number % 3 == 1 else 100000))
        if number % 3 == 2:
            receive(connection, 1)
        reset_on_close(connection)


def reset_on_close(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))


def reset_before_the_server_writes(server):
    """What it then has read it cannot send: EPIPE, for the client had closed its half before."""
    with server.connect() as connection:
        exchange(connection, b'x')
        stopped = children(server.pid)
        signal_all(stopped, signal.SIGSTOP)
        wait_until(lambda: not any(state(pid) in ('R', 'S', 'D') for pid in stopped),
                   'the children to stop')
        connection.sendall(b'y')
        connection.shutdown(socket.SHUT_WR)
        reset_on_close(connection)
    signal_all(stopped, signal.SIGCONT)


def stream_both_ways(server):
    data = os.urandom(1 << 20)
    with server.connect() as connection:
        sender = threading.Thread(target=connection.sendall, args=(data,))
        sender.start()
        back = receive(connection, len(data))
        sender.join()
    check(back == data.upper(), 'the stream came back wrong')


def at_once(task, server, count):
    with ThreadPoolExecutor(BATCH) as pool:
        for result in [pool.submit(task, server, i) for i in range(count)]:
            result.result()


def check_service(server):
    for i in range(500):
        talk(server, i)
    at_once(talk, server, 500)
    at_once(talk_in_pieces, server, BATCH)
    at_once(reset, server, 100)
    for _ in range(5):
        reset_before_the_server_writes(server)
    talk_to_the_end(server)
    with server.connect() as connection:
        exchange(connection, bytes(range(256)))
    stream_both_ways(server)
    with ThreadPoolExecutor(4) as pool:
        for result in [pool.submit(stream_both_ways, server) for _ in range(4)]:
            result.result()
    talk(server, 0)


def check_no_zombies(server):
    check(len(zombies(server.pid)) < 10, f'zombies: {zombies(server.pid)}')
    talk(server, 0)
    wait_until(lambda: not zombies(server.pid), 'the zombies to go')


def with_server(binary, test, stderr=''):
    server = Server(binary)
    try:
        test(server)
        server.end(stderr)
    finally:
        server.kill()
    check_nobody_left()


def serve_each_by_a_process(server):
    check_service(server)
    check_no_zombies(server)
    wait_until(lambda: not children(server.pid), 'the children to end')
    with server.connect() as connection:  # and one that is served when the server is ended
        exchange(connection, b'x')
        check(len(children(server.pid)) == 1, 'not one process for one connection')
        server.end()


def run_out_of_descriptors(server):
    """A server that can start no more processes drops connections, and recovers."""
    hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (24, hard))
    connections = [server.connect() for _ in range(60)]
    served = 0
    for connection in connections:
        try:
            exchange(connection, b'x')
            served += 1
        except (ConnectionError, Failed):
            pass
    check(1 <= served < 24, f'{served} connections were served')
    for connection in connections:
        connection.close()
    wait_until(lambda: not children(server.pid), 'the children to end')
    for i in range(100):
        talk(server, i)


def check_echo_server_fork(binary):
    with_server(binary, run_out_of_descriptors, r'(dropped a connection: .+\n)+')
    server = Server(binary)
    try:
        serve_each_by_a_process(server)
    finally:
        server.kill()


def is_whole(server, dead):
    """There are four live workers, without the dead."""
    now = children(server.pid)
    return len(now) == 4 and dead not in now and not zombies(server.pid)


def kill_workers(server):
    check(is_whole(server, 0), f'the workers are {children(server.pid)}')
    before = set(children(server.pid))
    check_service(server)
    check(set(children(server.pid)) == before, 'the workers are not the same as before')
    for _ in range(5):  # idle
        dead = children(server.pid)[0]
        os.kill(dead, signal.SIGKILL)
        wait_until(lambda dead=dead: is_whole(server, dead), 'a new worker')
        at_once(talk, server, BATCH)
    connections = [server.connect() for _ in range(4)]  # all busy
    for connection in connections:
        exchange(connection, b'x')
    dead = children(server.pid)[1]
    os.kill(dead, signal.SIGKILL)
    wait_until(lambda: is_whole(server, dead), 'a new worker')
    talk(server, 0)
    lost = 0
    for connection in connections:
        try:
            exchange(connection, b'y')
        except (ConnectionError, Failed):
            lost += 1
        connection.close()
    check(lost == 1, f'{lost} connections were lost with one worker')
    check_service(server)
    check_no_zombies(server)


def check_echo_server_pool(binary):
    with_server(binary, kill_workers)


class KeyServer(Server):
    """Of echo_with_key, and its clients."""

    def __init__(self, binary, address, key):
        self.program = subprocess.Popen([binary, 'serve', address, key], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.binary = binary
        self.pid = self.program.pid
        line = self.program.stdout.readline()
        self.address = check_text(r'listening at (.+)\n', line, 'the first line')[1]
        self.port = int(self.address.rpartition(':')[2]) if address.startswith('tcp:') else None

    def ask(self, key, text):
        return subprocess.run([self.binary, 'ask', self.address, key], input=text, capture_output=True,
                              text=True, timeout=30)


def ask_in_vain(server, other_key):
    """Who has another key, or speaks something else, is turned away; others do not notice."""
    done = server.ask(other_key, 'hello\n')
    check(done.returncode == 1 and 'refused the key' in done.stderr, f'with another key: {done}')
    with server.connect() as connection:
        connection.sendall(b'GET / HTTP/1.1\r\n\r\n')
        try:
            check(connection.recv(1) == b'', 'HTTP is answered')
        except ConnectionResetError:
            pass


def ask_and_die(server, key):
    with subprocess.Popen([server.binary, 'ask', server.address, key], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as client:
        client.stdin.write('last words\n')
        client.stdin.flush()
        check(client.stdout.readline() == 'LAST WORDS\n', 'the last words came back wrong')
        client.kill()


def ask_well(server, key):
    lines = ''.join(f'line {i}\n' for i in range(200)) + 'x' * 60000 + '\n'
    done = server.ask(key, lines)
    check(done.returncode == 0 and done.stderr == '' and done.stdout == lines.upper(), f'asked: {done.stderr}')


def ask_all(binary, address, key, other_key):
    server = KeyServer(binary, address, key)
    turned_away = ''
    try:
        ask_well(server, key)
        if server.port:
            ask_in_vain(server, other_key)
            turned_away = r'(turned away tcp:.+\n){2}'
        ask_and_die(server, key)
        with ThreadPoolExecutor(10) as pool:
            for result in [pool.submit(ask_well, server, key) for _ in range(30)]:
                result.result()
        server.end(turned_away + r'.*gone.*\n')
    finally:
        server.kill()
    done = server.ask(key, '')
    check(done.returncode == 1 and 'nobody listens' in done.stderr, f'after its end: {done}')


def check_echo_with_key(binary):
    with tempfile.TemporaryDirectory() as name:
        keys = [pathlib.Path(name) / 'key', pathlib.Path(name) / 'another']
        for key in keys:
            key.write_bytes(os.urandom(32))
        for address in 'tcp:127.0.0.1:0', f'unix:{name}/socket', f'unix:@covey-{os.getpid()}':
            ask_all(binary, address, *map(str, keys))
            check(not os.path.exists(f'{name}/socket'), 'the path is left')


# hashtree


def make_tree(directory):
    """Files of all kinds of sizes and names, and what is no file."""
    for i in range(120):
        sub = directory / f'd{i % 7}'
        sub.mkdir(exist_ok=True)
        (sub / f'file {i}').write_bytes(os.urandom(i * i * 37))
    (directory / 'back\\slash').write_bytes(b'1')
    (directory / 'line\nbreak').write_bytes(b'2')
    (directory / 'empty').write_bytes(b'')
    (directory / 'link').symlink_to('empty')
    os.mkfifo(directory / 'fifo')


def hashtree(binary, *arguments):
    """The finished process."""
    done = subprocess.run([binary, *arguments], capture_output=True, text=True, timeout=60)
    check_nobody_left()
    return done


def hashes_match(binary, tree, output, method):
    done = hashtree(binary, '--workers', '3', '--method', method, '--output', str(output), str(tree))
    check(done.returncode == 0 and done.stderr == '', f'hashtree by {method}: {done}')
    check(re.fullmatch(r'123 files, \d+ bytes, 0 failed, [\d.]+ s, \d+ files/s, 3 workers\n', done.stdout),
          f'the summary is {done.stdout!r}')
    paths = sorted(p for p in map(str, tree.rglob('*')) if os.path.isfile(p) and not os.path.islink(p))
    expected = subprocess.run(['sha256sum', *paths], capture_output=True, check=True).stdout
    check(output.read_bytes() == expected, 'the hashes are those of sha256sum')
    return expected


def poison_fails_those_only(binary, tree, output, expected):
    done = hashtree(binary, '--workers', '3', '--poison', '5', '--output', str(output), str(tree))
    reasons = ['killed by signal 11', 'killed by signal 6', 'killed by signal 9', 'exited with 0', 'deadline']
    lines = done.stderr.splitlines()
    check(done.returncode == 0, f'poisoned: {done}')
    check(len(lines) == 5 and all(r in line for r, line in zip(reasons, lines)), f'the reasons are {lines}')
    kept = output.read_bytes().splitlines()
    check(len(kept) == 118, f'{len(kept)} of 118 others are hashed')
    check(set(kept) <= set(expected.splitlines()), f'all others are right: {set(kept) - set(expected.splitlines())}')


def errors_are_named(binary, tree):
    gone = hashtree(binary, str(tree / 'nowhere'))
    check(gone.returncode == 1 and 'nowhere: No such file or directory' in gone.stderr, f'no directory: {gone}')
    wrong = hashtree(binary, '--method', 'magic')
    check(wrong.returncode == 1 and 'magic is not a start method' in wrong.stderr, f'method: {wrong}')
    wrong = hashtree(binary, '--workers', '-3')
    check(wrong.returncode == 1 and '-3 is not a number' in wrong.stderr, f'number: {wrong}')
    none = hashtree(binary, '--output', '/nowhere/at/all', str(tree))
    check(none.returncode == 1 and '/nowhere/at/all: No such file' in none.stderr, f'output: {none}')


def unreadable_is_reported(binary, tree):
    """Root may read all; so only what even root cannot: a file that is gone when its turn comes."""
    if os.geteuid() == 0:
        return
    (tree / 'd0').chmod(0)
    (tree / 'empty').chmod(0)
    done = hashtree(binary, str(tree))
    (tree / 'd0').chmod(0o700)
    (tree / 'empty').chmod(0o600)
    check(done.returncode == 1 and 'd0: cannot be read' in done.stderr and 'empty: Permission denied' in done.stderr,
          f'unreadable: {done}')


def check_hashtree(binary):
    with tempfile.TemporaryDirectory() as name:
        tree = pathlib.Path(name) / 'tree'
        output = pathlib.Path(name) / 'hashes'
        tree.mkdir()
        make_tree(tree)
        for method in 'fork', 'spawn', 'forkserver':
            expected = hashes_match(binary, tree, output, method)
        for _ in range(3):
            poison_fails_those_only(binary, tree, output, expected)
        errors_are_named(binary, tree)
        unreadable_is_reported(binary, tree)


CHECKS = {
    'barrier_phases': prints(
        '  0  0  0  0  1  1  1  0  0  0  0  0\n'
        '  0  0  0  1  2  3  2  1  0  0  0  0\n'
        '  0  0  1  3  6  7  6  3  1  0  0  0\n'
        '  0  1  4 10 16 19 16 10  4  1  0  0\n'),
    'barrier_tells_of_a_death': check_barrier_tells_of_a_death,
    'bounded_semaphore_is_strict': prints(
        'semaphore  released; now 3 are free\n'
        'bounded    COVEY_ENOTHELD: .*; now 2 are free\n'
        'events     released; now 3 are free\n'),
    'condition_shop': prints('200 baked, 200 eaten\n' * 3),
    'deadlock_is_told': check_deadlock_is_told,
    'event_start_signal': prints('dora went home\ngo!\nanna ran\nbert ran\ncleo ran\n'),
    'images_without_a_copy': prints(''.join(f'an image of 8 MiB, all {n}\n' for n in range(10))),
    'killed_holder_is_told': prints(''.join(
        f'{method}\n'
        '  first: nothing to repair\n'
        '  main: 90 and 0\n'
        r'  second: the process that held the lock \(pid \d+\) has died\n'
        '  second: repaired\n'
        '  third: nothing to repair\n'
        '  main: 80 and 20\n' for method in ('fork', 'spawn', 'forkserver'))),
    'lock_keeps_lines_whole': prints_in_any_order([f'hello world from {i}\n' for i in range(9)]),
    'rlock_taken_again': prints(
        ''.join(f'process {i} has seen a wrong sum 0 times\n' for i in (1, 2, 3)) + 'the sum is 2000\n'),
    'rwlock_readers_and_writer': prints('a reader ended with 0\n' * 3 + 'a writer ended with 0\n'),
    'semaphore_limits_downloads': check_semaphore_limits_downloads,
    'shared_state': prints(''.join(
        f'{method}\n  3.1415927\n  0 -1 -2 -3 -4 -5 -6 -7 -8 -9\n  4000\n'
        for method in ('fork', 'spawn', 'forkserver'))),
    'hashtree': check_hashtree,
    'workers_print_pids': check_workers_print_pids,
    'squares_with_map': prints(SQUARES),
    'squares_with_futures': prints(SQUARES),
    'work_is_given_out_again': prints(''.join(f'item {n} was done 1 time\n' for n in range(6))),
    'writer_reader_sentinel': prints(
        ''.join(f'read {n}\n' for n in range(1, 11)) +
        'the sum is 55\nthe reader ended with 0\nthe writer ended with 0\n'),
    'memory_is_copied': prints(
        "in the process's own memory:\n  the child sees 0\n  the parent sees 100\n"
        'in the arena:\n  the child sees 0\n  the parent sees 0\n'),
    'joins_overlap': prints('5 joins took as long as the longest child: yes\n', r'\d\.\d{3} s\n'),
    'fork_seen_raw': check_fork_seen_raw,
    'echo_server_fork': check_echo_server_fork,
    'echo_server_pool': check_echo_server_pool,
    'pipe_conversation': prints(
        'a has 1 letters\ncovey has 5 letters\nof has 2 letters\npartridges has 10 letters\n'
        'the child: the other end is closed\n'),
    'answers_by_pipe': prints(
        '1 squared is 1\n2 squared is 4\nnobody will answer 3 any more: another server\n'
        '3 squared is 9\n4 squared is 16\n'),
    'one_loop_for_all': prints(
        'order: begin\njob: put out the fire\njob: water the plants\njob: post the letters\n'
        'the sum is 5\n'),
    'echo_with_key': check_echo_with_key,
    'producer_consumer': prints(
        'produced 2000, sum 1001000\nconsumed 2000, sum 1001000\n'),
    'daemon_ends_with_parent': prints(
        'the daemon runs: yes\nthe child ended with -9\nthe daemon has ended, too: yes\n'),
    'all_start_methods': prints(
        'fork        the variable is what main\\(\\) has made it, the argument is 100\n'
        'spawn       the variable is as it was at first, the argument is 100\n'
        'forkserver  the variable is as it was at first, the argument is 100\n'),
}


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in CHECKS:
        sys.exit(f'usage: {sys.argv[0]} NAME PATH_TO_BINARY\nNAME is one of {", ".join(CHECKS)}')
    become_subreaper()
    try:
        CHECKS[sys.argv[1]](os.path.abspath(sys.argv[2]))
        check_nobody_left()
    except Failed as failed:
        sys.exit(f'{sys.argv[1]}: {failed}')


if __name__ == '__main__':
    main()
