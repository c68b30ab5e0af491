import Foundation

/// libikeshim.so, and programs run under it.
enum Shim {
  /// Compiled from its source.
  static let library: String? = {
    let source = URL(fileURLWithPath: #filePath).deletingLastPathComponent().path + "/../../../Sources/ikeshim"
    let built = NSTemporaryDirectory() + "libikeshim-\(getpid()).so"
    let compiler = run(
      "/usr/bin/env",
      [
        "cc", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-I\(source)/include", "-o", built,
        "\(source)/ikeshim.c", "-ldl",
      ])
    return compiler.status == 0 ? built : nil
  }()

  static let ip: String? = ["/usr/sbin/ip", "/sbin/ip", "/bin/ip"].first(where: FileManager.default.isExecutableFile)

  struct Output: Sendable {
    var status: Int32
    var out: String
    var err: String
  }

  static func process(_ program: String, _ arguments: [String], directory: String?) -> (Process, Pipe, Pipe) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: program)
    process.arguments = arguments
    var environment = ProcessInfo.processInfo.environment
    if let directory, let library {
      environment["LD_PRELOAD"] = library
      environment["GW_RUN_DIR"] = directory
    }
    process.environment = environment
    let (out, err) = (Pipe(), Pipe())
    process.standardOutput = out
    process.standardError = err
    process.standardInput = FileHandle.nullDevice
    return (process, out, err)
  }

  /// `directory`: run under the shim against the sockets there.
  static func run(_ program: String, _ arguments: [String], directory: String? = nil) -> Output {
    let (process, out, err) = process(program, arguments, directory: directory)
    do { try process.run() } catch { return Output(status: -1, out: "", err: "\(error)") }
    let text = out.fileHandleForReading.readDataToEndOfFile()
    let errors = err.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return Output(
      status: process.terminationStatus, out: String(decoding: text, as: UTF8.self),
      err: String(decoding: errors, as: UTF8.self))
  }
}
