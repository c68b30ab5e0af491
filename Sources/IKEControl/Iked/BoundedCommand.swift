import CLinux
import Glibc
import Threads

/// A program's run, bounded in time and in what it says: one that hangs, or has no end, is killed.
struct BoundedCommand {
  var program: String
  var arguments: [String]
  var timeout: Duration
  var interrupt: Interrupt?
  /// Of each stream.
  private static let outputLimit = 4 << 20

  struct Outcome {
    var status: Int32
    var output: String
    var errors: String
  }

  enum Failure: Error {
    case start(String)
    /// Killed: no end in time, or too much said.
    case endless
    /// Killed because somebody else wanted it.
    case interrupted
    case signal(Int32)
  }

  func run() throws(Failure) -> Outcome {
    var (output, errors) = try (Stream(), Stream())
    defer {
      output.close()
      errors.close()
    }
    let process = try spawn(output, errors)
    output.closeWriting()
    errors.closeWriting()
    let deadline = ContinuousClock.now + timeout
    do throws(Failure) {
      while output.isOpen || errors.isOpen { try read(&output, &errors, deadline) }
    } catch {
      Self.end(process)
      throw error
    }
    guard let status = Self.wait(process, until: deadline) else {
      Self.end(process)
      throw .endless
    }
    guard status & 0x7f == 0 else { throw .signal(status & 0x7f) }
    return Outcome(status: status >> 8 & 0xff, output: output.text, errors: errors.text)
  }

  private struct Stream {
    private var reading: Int32
    private(set) var writing: Int32
    private var bytes: [UInt8] = []
    var isOpen = true
    var descriptor: Int32 { isOpen ? reading : -1 }
    var text: String { String(decoding: bytes, as: UTF8.self) }

    init() throws(Failure) {
      var ends: [Int32] = [-1, -1]
      guard clinux_pipe(&ends) == 0 else { throw .start(String(cString: strerror(errno))) }
      (reading, writing) = (ends[0], ends[1])
      _ = fcntl(reading, F_SETFL, O_NONBLOCK)
    }

    mutating func read() throws(Failure) {
      var part = [UInt8](repeating: 0, count: 16 << 10)
      let count = Glibc.read(reading, &part, part.count)
      if count < 0 && (errno == EAGAIN || errno == EINTR) { return }
      guard count > 0 else {
        isOpen = false
        return
      }
      bytes += part[..<count]
      guard bytes.count <= outputLimit else { throw .endless }
    }

    mutating func closeWriting() {
      if writing >= 0 { Glibc.close(writing) }
      writing = -1
    }

    mutating func close() {
      closeWriting()
      Glibc.close(reading)
    }
  }

  private func read(
    _ output: inout Stream, _ errors: inout Stream, _ deadline: ContinuousClock.Instant
  ) throws(Failure) {
    // poll passes over a descriptor below zero.
    var entries = [output.descriptor, errors.descriptor, interrupt?.descriptor ?? -1].map {
      pollfd(fd: $0, events: Int16(POLLIN), revents: 0)
    }
    _ = poll(&entries, 3, LocalStream.milliseconds(until: deadline))
    guard entries[2].revents == 0 else { throw .interrupted }
    guard ContinuousClock.now < deadline else { throw .endless }
    if entries[0].revents != 0 { try output.read() }
    if entries[1].revents != 0 { try errors.read() }
  }

  /// Kills the program with what it has started.
  private static func end(_ process: pid_t) {
    kill(-process, SIGKILL)
    _ = wait(process, until: nil)
  }

  /// Nothing of ours goes with it: no descriptors, no blocked or ignored signals. It leads a process group of its own.
  private func spawn(_ output: Stream, _ errors: Stream) throws(Failure) -> pid_t {
    var actions = posix_spawn_file_actions_t()
    var attributes = posix_spawnattr_t()
    posix_spawn_file_actions_init(&actions)
    posix_spawnattr_init(&attributes)
    defer {
      posix_spawn_file_actions_destroy(&actions)
      posix_spawnattr_destroy(&attributes)
    }
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_adddup2(&actions, output.writing, 1)
    posix_spawn_file_actions_adddup2(&actions, errors.writing, 2)
    _ = clinux_spawn_standard_descriptors_only(&actions)
    var (none, all) = (sigset_t(), sigset_t())
    sigemptyset(&none)
    sigfillset(&all)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setsigdefault(&attributes, &all)
    posix_spawnattr_setpgroup(&attributes, 0)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP))
    var vector: [UnsafeMutablePointer<CChar>?] = ([program] + arguments).map { strdup($0) } + [nil]
    defer { for word in vector { free(word) } }
    var process = pid_t()
    let code = posix_spawn(&process, program, &actions, &attributes, &vector, environ)
    guard code == 0 else { throw .start("\(program): \(String(cString: strerror(code)))") }
    return process
  }

  /// Its status as waitpid(2) has it; nil: none by then.
  private static func wait(_ process: pid_t, until deadline: ContinuousClock.Instant?) -> Int32? {
    while true {
      var status: Int32 = 0
      let done = waitpid(process, &status, deadline == nil ? 0 : WNOHANG)
      if done == process { return status }
      // Somebody else has waited for it: how it ended is not known.
      if done < 0 && errno != EINTR { return 0x7f }
      if let deadline, ContinuousClock.now > deadline { return nil }
      usleep(2000)
    }
  }
}
