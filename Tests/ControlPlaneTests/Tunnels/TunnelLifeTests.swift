import IPsec
import Testing

@testable import ControlPlane

/// The states of a tunnel, and what leads from one to the other.
@Suite struct TunnelLifeTests {
  private func carrier(_ serial: UInt32, _ owner: Owner = .xfrm(1)) -> TunnelCarrier {
    TunnelCarrier(serial: serial, owner: owner)
  }

  @Test func upRekeyedDown() {
    var life = TunnelLife(now: 100, reason: nil)
    #expect(life.state == .down && life.since == 100 && !life.isUp)
    life.isAskedFor(now: 105)
    #expect(life.state == .connecting && life.since == 100)
    life.carries(carrier(1), now: 110)
    #expect(life.state == .up && life.since == 110 && life.comings == 1 && life.rekeys == 0)
    life.carries(carrier(1), now: 111)
    life.carries(carrier(5), now: 120)
    #expect(life.rekeys == 1 && life.lastRekey == 120 && life.since == 110)
    // The newer SA is deleted again.
    life.carries(carrier(1), now: 121)
    #expect(life.rekeys == 1)
    life.carriesNothing(because: "the lifetime of its SAs ended", now: 130)
    #expect(life.state == .down && life.since == 130 && life.reason == "the lifetime of its SAs ended")
    life.carriesNothing(because: "something else", now: 140)
    #expect(life.since == 130 && life.reason == "the lifetime of its SAs ended")
    life.carries(carrier(7), now: 150)
    #expect(life.comings == 2 && life.reason == nil && life.rekeys == 1)
  }

  @Test func staticKeys() {
    var life = TunnelLife(now: 1, reason: "ipsec.conf has no SA for it")
    life.carries(carrier(1, .configuration), now: 2)
    #expect(life.state == .static && life.isUp)
    life.carries(carrier(2, .xfrm(1)), now: 3)
    #expect(life.state == .up && life.since == 2)
  }

  /// What the daemon said just before is why; what it said long ago is not.
  @Test func theDaemonKnowsWhy() {
    var life = TunnelLife(now: 1, reason: nil)
    life.carries(carrier(1), now: 2)
    life.complain("giving up after 3 retransmits", isFinal: true, now: 10)
    #expect(life.isUp)
    life.carriesNothing(because: "the key daemon deleted its SAs", now: 11)
    #expect(life.reason == "giving up after 3 retransmits")
    life.carries(carrier(2), now: 20)
    life.complain("retransmit 1 of request", isFinal: false, now: 30)
    life.carriesNothing(because: "the lifetime of its SAs ended", now: 300)
    #expect(life.reason == "the lifetime of its SAs ended")
    // What is said after it went explains it too.
    life.complain("peer not responding", isFinal: true, now: 301)
    #expect(life.reason == "peer not responding" && life.since == 300)
  }

  @Test func questions() {
    var life = TunnelLife(now: 1, reason: nil)
    life.isAskedFor(now: 2)
    life.complain("retransmit 1 of request with message ID 0", isFinal: false, now: 4)
    #expect(life.state == .connecting)
    life.complain("giving up after 3 retransmits", isFinal: true, now: 9)
    #expect(life.state == .down)
    life.isAskedFor(now: 30)
    life.isUnanswered("no answer", now: 60)
    #expect(life.state == .down && life.reason == "no answer")
    // A daemon that says nothing at all.
    life.isAskedFor(now: 100)
    life.waits(now: 270)
    #expect(life.state == .connecting)
    life.waits(now: 281)
    #expect(life.state == .down)
  }

  @Test func barred() {
    var life = TunnelLife(now: 1, reason: nil)
    life.cannot("no key daemon answers")
    #expect(life.reason == "no key daemon answers")
    life.may()
    #expect(life.reason == nil)
    life.complain("NO_PROPOSAL_CHOSEN", isFinal: true, now: 2)
    life.may()
    #expect(life.reason == "NO_PROPOSAL_CHOSEN")
    // Torn down: said while it is still up.
    life.carries(carrier(1), now: 3)
    life.cannot("no key daemon answers")
    life.cannot("torn down", isWish: true)
    #expect(life.isUp && life.reason == nil)
    life.carriesNothing(because: "the key daemon deleted its SAs", now: 4)
    #expect(life.reason == "torn down")
    life.may()
    #expect(life.reason == nil)
  }

  @Test func finalWords() {
    #expect(TunnelLife.isFinal("received AUTHENTICATION_FAILED notify error"))
    #expect(TunnelLife.isFinal("giving up after 5 retransmits"))
    #expect(TunnelLife.isFinal("received NO_PROPOSAL_CHOSEN error notify"))
    #expect(!TunnelLife.isFinal("retransmit 2 of request with message ID 0"))
  }
}

@Suite struct TunnelHistoryTests {
  @Test func ratesOfSecondTenAndMinute() {
    var history = TunnelHistory()
    var sent = TrafficCount()
    history.add(TrafficCount(), sent, now: 0)
    #expect(history.rates == .init() && history.bits.isEmpty)
    for second in 1...60 {
      sent = sent + TrafficCount(packets: 10, bytes: second > 50 ? 1000 : 500)
      history.add(TrafficCount(), sent, now: Double(second))
    }
    #expect(history.rates.second.outBitsPerSecond == 8000 && history.rates.second.outPacketsPerSecond == 10)
    #expect(history.rates.tenSeconds.outBitsPerSecond == 8000)
    #expect(abs(history.rates.minute.outBitsPerSecond - 4666.67) < 0.01)
    #expect(history.bits.count == 60 && history.bits.last == 8000 && history.bits.first == 4000)
    #expect(history.bitsPerSecond == 8000)
    // A late sample is the mean of the seconds that it is late by; too early ones are none.
    sent = sent + TrafficCount(packets: 4, bytes: 4000)
    history.add(TrafficCount(), sent, now: 64)
    history.add(TrafficCount(), sent, now: 64.2)
    #expect(history.bits.suffix(5) == [8000, 8000, 8000, 8000, 8000])
    history.add(TrafficCount(), sent, now: 65)
    #expect(history.bitsPerSecond == 0)
    for second in 66...130 { history.add(TrafficCount(), sent, now: Double(second)) }
    #expect(history.bits.isEmpty)
  }

  /// Counting begins anew where a policy was replaced.
  @Test func countsThatFall() {
    var history = TunnelHistory()
    history.add(TrafficCount(packets: 100, bytes: 100), TrafficCount(), now: 1)
    history.add(TrafficCount(packets: 3, bytes: 3), TrafficCount(), now: 2)
    #expect(history.bitsPerSecond == 0)
    history.add(TrafficCount(packets: 4, bytes: 103), TrafficCount(), now: 3)
    #expect(history.bitsPerSecond == 800)
  }
}
