import CFuzzer
import Foundation

/// One fuzz target: hostile bytes into a part of the gateway. It must not trap; what else must hold it checks itself.
protocol FuzzTarget {
  static func fuzz(_ input: FuzzInput)
}

extension FuzzTarget {
  /// What libFuzzer wants of a run: 0.
  static func run(_ input: FuzzInput) -> Int32 {
    fuzz(input)
    return 0
  }
}

/// `gwfuzz TARGET [libFuzzer's options and corpora]`, or `gwfuzz seeds DIRECTORY`.
@main enum GWFuzz {
  static func main() {
    var words = CommandLine.arguments
    if words.count == 3, words[1] == "seeds" { return Seeds.write(to: words[2]) }
    // libFuzzer starts the program again for its parts of a merge, with its own options only.
    let inherited = ProcessInfo.processInfo.environment["GW_FUZZ_TARGET"]
    guard words.count > 1, let callback = callback(words[1]) ?? inherited.flatMap(callback) else { usage() }
    if Self.callback(words[1]) != nil { setenv("GW_FUZZ_TARGET", words.remove(at: 1), 1) }
    // The driver keeps the pointers.
    var arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = .allocate(capacity: words.count + 1)
    arguments?.initialize(repeating: nil, count: words.count + 1)
    for (index, word) in words.enumerated() { arguments?[index] = strdup(word) }
    var count = Int32(words.count)
    _ = LLVMFuzzerRunDriver(&count, &arguments, callback)
  }

  private typealias Callback = @convention(c) (UnsafePointer<UInt8>?, Int) -> Int32

  private static func callback(_ name: String) -> Callback? {
    switch name {
    case "packet": { PacketTarget.run(FuzzInput($0, $1)) }
    case "inbound": { InboundTarget.run(FuzzInput($0, $1)) }
    case "outbound": { OutboundTarget.run(FuzzInput($0, $1)) }
    case "bursts": { BurstsTarget.run(FuzzInput($0, $1)) }
    case "ipsec-conf": { IPsecConfTarget.run(FuzzInput($0, $1)) }
    case "gateway-yaml": { GatewayYAMLTarget.run(FuzzInput($0, $1)) }
    case "pfkey": { PFKeyTarget.run(FuzzInput($0, $1)) }
    case "xfrm": { XFRMTarget.run(FuzzInput($0, $1)) }
    case "vici": { VICITarget.run(FuzzInput($0, $1)) }
    default: nil
    }
  }

  private static func usage() -> Never {
    let targets = "packet, inbound, outbound, bursts, ipsec-conf, gateway-yaml, pfkey, xfrm, vici"
    FileHandle.standardError.write(Data("usage: gwfuzz TARGET [options] [corpus…]; targets: \(targets)\n".utf8))
    exit(64)
  }
}

/// A promise that was not kept ends the run with a text (a precondition's has none in a release build).
func require(_ isKept: Bool, _ promise: @autoclosure () -> String) { if !isKept { fatalError(promise()) } }

/// The bytes of one run, read from the front.
struct FuzzInput {
  private(set) var rest: UnsafeRawBufferPointer

  init(_ data: UnsafePointer<UInt8>?, _ count: Int) { rest = UnsafeRawBufferPointer(start: data, count: count) }

  mutating func byte() -> UInt8 {
    guard let first = rest.first else { return 0 }
    rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst())
    return first
  }

  /// length(2, big-endian) bytes: the next of a list; nil at the end. A length beyond the end means what is left.
  mutating func block() -> [UInt8]? {
    guard rest.count > 2 else { return nil }
    let length = Int(rest[0]) << 8 | Int(rest[1])
    let body = rest.dropFirst(2).prefix(length)
    rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(2 + body.count))
    return Array(body)
  }

  mutating func blocks(atMost limit: Int) -> [[UInt8]] {
    var blocks: [[UInt8]] = []
    while blocks.count < limit, let block = block() { blocks.append(block) }
    return blocks
  }
}
