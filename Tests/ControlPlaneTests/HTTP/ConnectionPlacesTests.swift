import Testing

@testable import ControlPlane

@Suite struct ConnectionPlacesTests {
  private let places = ConnectionPlaces(all: 6, ofPeer: 3)
  private let start = ContinuousClock.now

  private func holders(_ peers: [(HTTPPeer, isIdle: Bool)]) -> [ConnectionPlaces.Holder] {
    peers.enumerated().map { index, holder in
      .init(
        number: UInt64(index), peer: holder.0, isIdle: holder.isIdle, since: start + .seconds(index))
    }
  }

  @Test func whoHasTooManyGivesUpItsOwn() {
    let own = holders([(.address("a"), false), (.address("a"), true), (.address("a"), true)])
    #expect(places.verdict(on: .address("a"), among: own) == .replace(1))
    #expect(places.verdict(on: .address("b"), among: own) == .take)
    let busy = holders([(.address("a"), false), (.address("a"), false), (.address("a"), false)])
    #expect(places.verdict(on: .address("a"), among: busy) == .refuse)
  }

  @Test func theIdleGiveWayAndOfThemWhoHasMost() {
    let all = holders([
      (.address("b"), true), (.address("c"), false), (.address("a"), false), (.address("a"), true),
      (.address("a"), true), (.address("b"), true),
    ])
    #expect(places.verdict(on: .address("d"), among: all) == .replace(3))
    let busy = holders((0..<6).map { (.address("\($0)"), false) })
    #expect(places.verdict(on: .address("d"), among: busy) == .refuse)
  }

  @Test func rootFindsAPlace() {
    let others = holders((0..<6).map { (.user($0 + 1), false) })
    #expect(places.verdict(on: .user(0), among: others) == .replace(0))
    #expect(places.verdict(on: .user(7), among: others) == .refuse)
    let own = holders((0..<4).map { _ in (.user(0), false) })
    #expect(places.verdict(on: .user(0), among: own) == .take)
    #expect(places.verdict(on: .user(0), among: holders((0..<6).map { _ in (.user(0), false) })) == .refuse)
  }

  @Test func aTurnstileKeepsTheOrder() {
    var turnstile = Turnstile(places: 2)
    #expect(
      turnstile.enter(1) && turnstile.enter(2) && !turnstile.enter(3) && !turnstile.enter(4) && !turnstile.enter(5))
    // Who waits no more is passed over.
    #expect(turnstile.leave(4) == nil)
    #expect(turnstile.leave(1) == 3 && turnstile.leave(2) == 5)
    #expect(turnstile.leave(3) == nil && turnstile.leave(5) == nil && turnstile.leave(5) == nil)
    #expect(turnstile.inside.isEmpty && turnstile.waiting.isEmpty)
  }
}
