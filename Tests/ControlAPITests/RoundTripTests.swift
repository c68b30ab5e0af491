import Foundation
import IPsec
import ControlAPITesting
import Testing
import Wire

@testable import ControlAPI
@testable import Engines

@Suite struct RoundTripTests {
  /// Every field that `dump` sees.
  func text(_ value: Any) -> String {
    var text = ""
    dump(value, to: &text)
    return text
  }

  @Test func saKeepsEveryField() throws {
    var back = try APICoding.decode(SARecord.self, from: APICoding.encode(Samples.record, revealKeys: true))
    var record = Samples.record
    #expect(back.parameters.transform.encryption == .aesCBC)
    #expect(back.parameters.transform.authentication == .hmacSHA256)
    #expect(back.parameters.transform.encryptionKey == Samples.key)
    #expect(back.parameters.transform.authenticationKey == Samples.key)
    // Compared; where the key lies in memory is no part of the value.
    record.parameters.transform = CryptoTransform(encryption: .null)
    back.parameters.transform = record.parameters.transform
    #expect(text(back) == text(record))
  }

  @Test func policyKeepsEveryField() throws {
    let back = try APICoding.decode(PolicyRecord.self, from: APICoding.encode(Samples.policy))
    #expect(text(back) == text(Samples.policy))
  }

  @Test func keysAreLeftOutUnlessRevealed() throws {
    let data = try APICoding.encode(Samples.record)
    let json = String(decoding: data, as: UTF8.self)
    #expect(!json.contains("a0a1a2a3"))
    #expect(json.contains("\"encryption_key_bits\":256"))
    #expect(throws: ControlError.self) { try APICoding.decode(SARecord.self, from: data) }
    let hidden = try APICoding.decode(SARecord.self, from: data, acceptHiddenKeys: true)
    #expect(hidden.parameters.transform.encryptionKey.count == 32)
  }

  @Test func everyNameReadsBack() throws {
    func check<Value: Codable & Equatable>(_ values: [Value]) throws {
      #expect(try APICoding.decode([Value].self, from: APICoding.encode(values)) == values)
    }
    try check(EncryptionAlgorithm.allCases)
    try check(AuthenticationAlgorithm.allCases)
    try check(CompressionAlgorithm.allCases)
    try check(SAProtocol.allCases)
    try check(PolicyType.allCases)
    try check([SAMode.tunnel, .transport])
    try check([SAState.larval, .mature, .dying, .dead])
    try check([PolicyDirection.in, .out, .forward])
    try check([DFPolicy.copy, .set, .clear])
    try check([Owner.configuration, .pfkey(0), .xfrm(UInt64.max)])
  }

  @Test func everyEventReadsBack() throws {
    let notice = AcquireNotice(
      sequence: 1, policy: Samples.policy, template: Samples.template, packet: Samples.selector)
    let changes: [DatabaseChange] = [
      .saAdded(Samples.record), .saUpdated(Samples.record), .saDeleted(Samples.record), .sasFlushed(nil),
      .sasFlushed(.ah), .saExpired(Samples.record, hard: true),
      .mapping(Samples.record, newSource: IPAddress("203.0.113.9")!, newPort: 1234), .acquire(notice),
      .acquireExpired(notice), .policyAdded(Samples.policy), .policyUpdated(Samples.policy),
      .policyDeleted(Samples.policy), .policiesFlushed,
    ]
    var bodies = changes.map { GatewayEvent.Body.database($0) }
    bodies += [.lost(7), .reloaded(ReloadReport(atSeconds: 1, succeeded: false, messages: ["x"]))]
    for body in bodies {
      let event = try APICoding.encode(
        GatewayEvent(sequence: 3, atSeconds: 4.5, origin: 6, body: body), revealKeys: true)
      let back = try APICoding.decode(GatewayEvent.self, from: event)
      #expect(try APICoding.encode(back, revealKeys: true) == event)
    }
  }

  @Test(arguments: [
    (#"{"mode":"add","rules":[{"sa":{"spi":1,"source":"x","destination":"10.0.0.1"}}]}"#, "rules[0].sa.source"),
    (#"{"mode":"add","rules":[{"sa":{"spi":-1,"source":"10.0.0.2","destination":"10.0.0.1"}}]}"#, "does not fit"),
    (#"{"mode":"add","rules":[{}]}"#, "one of sa, policy, bundle"), (#"{"mode":"frob","rules":[]}"#, "mode"),
    (#"{"rules":[]}"#, "mode: missing"), (#"{"mode":"add","rules":7}"#, "rules"), ("[", "not JSON"), ("", "not JSON"),
  ])
  func malformedIsExplained(_ json: String, _ expected: String) {
    do {
      _ = try APICoding.decode(RuleTransaction.self, from: Data(json.utf8))
      Issue.record("accepted \(json)")
    } catch {
      #expect(error.kind == .malformed)
      #expect(error.detail.contains(expected), "\(error.detail)")
    }
  }

  @Test func aBadKeyIsNotQuoted() {
    let json = #"""
      {"spi":1,"source":"10.0.0.2","destination":"10.0.0.1","transform":{"encryption":"aes-cbc","encryption_key":"c0ffeeXX"}}
      """#
    do {
      _ = try APICoding.decode(SAParameters.self, from: Data(json.utf8))
      Issue.record("accepted")
    } catch {
      #expect(!error.detail.contains("c0ffee"))
      #expect(error.detail.contains("hexadecimal"))
    }
  }
}

@Suite struct EventBroadcasterTests {
  @Test func aSlowReaderIsToldWhatItLost() async {
    let broadcaster = EventBroadcaster(depth: 3)
    let stream = broadcaster.subscribe()
    for _ in 0..<10 { broadcaster.publish(.policiesFlushed) }
    var reader = stream.makeAsyncIterator()
    for expected in 1...4 as ClosedRange<UInt64> { #expect(await reader.next()?.sequence == expected) }
    broadcaster.publish(.policiesFlushed)
    guard case .lost(6)? = await reader.next()?.body else {
      Issue.record("no note of the lost")
      return
    }
    #expect(await reader.next()?.sequence == 11)
    broadcaster.finish()
    #expect(await reader.next() == nil)
    #expect(broadcaster.readerCount == 0)
  }

  /// A reader that is cancelled while an event wakes it: the one holds the lock of the task's status, which the other wants.
  @Test func readersComeAndGoWhileEventsArePublished() async throws {
    let broadcaster = EventBroadcaster(depth: 4)
    let publishing = Task.detached {
      for number in 0..<20_000 { broadcaster.publish(.lost(UInt64(number))) }
    }
    for _ in 0..<2000 {
      let reader = Task.detached { for await _ in broadcaster.subscribe() {} }
      await Task.yield()
      reader.cancel()
      await reader.value
    }
    await publishing.value
    #expect(broadcaster.readerCount == 0)
  }
}
