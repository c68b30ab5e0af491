import Engines
import Testing

@testable import IKEControl

@Suite struct VICICodingTests {
  /// The example message of strongSwan's vici README, "Message encoding", and the bytes that it says it has.
  @Test func exampleOfTheProtocolsDescription() throws {
    var list = VICISection()
    list.set("list1", list: ["item1", "item2"])
    var nested = VICISection(["key2": "value2"])
    nested.set("sub-section", section: VICISection(["key3": "value3"]))
    var message = VICISection(["key1": "value1"])
    message.set("section1", section: nested)
    for entry in list.entries { message.entries.append(entry) }
    var writer = VICIWriter()
    try writer.put(message)
    var wanted: [UInt8] = []
    func name(_ tag: UInt8, _ name: String) { wanted += [tag, UInt8(name.utf8.count)] + name.utf8 }
    func value(_ text: String) { wanted += [0, UInt8(text.utf8.count)] + text.utf8 }
    name(3, "key1")
    value("value1")
    name(1, "section1")
    name(3, "key2")
    value("value2")
    name(1, "sub-section")
    name(3, "key3")
    value("value3")
    wanted += [2, 2]
    name(4, "list1")
    wanted.append(5)
    value("item1")
    wanted.append(5)
    value("item2")
    wanted.append(6)
    #expect(writer.bytes == wanted)
    var reader = VICIReader(wanted[...])
    #expect(try reader.message() == message)
  }

  @Test func packetsComeBack() throws {
    var message = VICISection(["child": "net", "empty": ""])
    message.set("none", list: [])
    let packets: [VICIPacket] = [
      .request(command: "list-sas", VICISection()), .request(command: "initiate", message), .response(message),
      .commandUnknown, .register(event: "list-sa"), .unregister(event: "list-sa"), .eventConfirm, .eventUnknown,
      .event("list-sa", message),
    ]
    for packet in packets {
      let bytes = try packet.framed().bytes
      #expect(bytes[..<4].reduce(0) { $0 << 8 | Int($1) } == bytes.count - 4)
      #expect(try VICIPacket(Array(bytes[4...])) == packet)
    }
  }

  @Test func secretsTravelAsText() throws {
    var message = VICISection(["id": "x"])
    message.set("data", value: .secret(SecretBytes([1, 0, 255])))
    let bytes = try VICIPacket.response(message).framed().bytes
    guard case .response(let read) = try VICIPacket(Array(bytes[4...])) else { throw VICIError.closed }
    #expect(read["data"] == .text([1, 0, 255]))
    #expect(!"\(message)".contains("255"))
  }

  @Test func limitsOfTheFormat() throws {
    let long = String(repeating: "n", count: 256)
    #expect(throws: VICIError.tooLong(long)) { try VICIPacket.register(event: long).framed() }
    #expect(throws: VICIError.self) {
      try VICIPacket.response(VICISection(["k": String(repeating: "v", count: 65536)])).framed()
    }
    var huge = VICISection()
    huge.set("l", list: Array(repeating: String(repeating: "v", count: 60000), count: 10))
    #expect(throws: VICIError.self) { try VICIPacket.response(huge).framed() }
    var deep = VICISection()
    for _ in 0..<40 {
      var outer = VICISection()
      outer.set("s", section: deep)
      deep = outer
    }
    let bytes = try VICIPacket.response(deep).framed().bytes
    #expect(throws: VICIError.malformed("sections nest too deep")) { try VICIPacket(Array(bytes[4...])) }
  }

  @Test(
    arguments: [
      [], [8], [1, 3], [1, 3, 5, 65], [1, 3, 1, 65], [1, 3, 1, 65, 0, 2, 65], [1, 2], [1, 6], [1, 5, 0, 0],
      [1, 1, 1, 65],
      [1, 4, 1, 65], [1, 4, 1, 65, 5, 255, 255], [1, 4, 1, 65, 3, 1, 65, 0, 0], [1, 0], [0], [0, 9, 65], [7, 1],
      [1, 1, 1, 65, 2, 2],
    ] as [[UInt8]])
  func lies(_ bytes: [UInt8]) { #expect(throws: VICIError.self) { try VICIPacket(bytes) } }

  /// Whatever comes, it is read or refused; what is read is written the same again.
  @Test func noise() throws {
    var sample = VICISection(["version": "2", "state": "ESTABLISHED"])
    sample.set("local-ts", list: ["10.0.0.0/24", "10.1.0.0/24"])
    sample.set("child-sas", section: VICISection(["name": "net"]))
    let good = Array(try VICIPacket.event("list-sa", sample).framed().bytes[4...])
    let seed = UInt64.random(in: 0 ... .max)
    var state = seed
    func random(_ bound: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33) % bound
    }
    for _ in 0..<20000 {
      var bytes = good
      for _ in 0...random(4) {
        switch random(3) {
        case 0: bytes[random(bytes.count)] = UInt8(random(256))
        case 1: bytes.insert(UInt8(random(256)), at: random(bytes.count))
        default: if bytes.count > 1 { bytes.remove(at: random(bytes.count)) }
        }
      }
      guard let packet = try? VICIPacket(bytes), let again = try? packet.framed().bytes else { continue }
      #expect(try VICIPacket(Array(again[4...])) == packet, "seed \(seed)")
    }
  }
}
