import CDPDK
import IPsec
import Testing

@testable import DPDK

@Suite struct QuiescentStateTests {
  @Test func waitsForEveryOnlineReader() {
    let state = QuiescentState(readers: 2)
    #expect(state.isComplete(state.start()))  // none is online
    QuiescentState.online(state.base, reader: 0)
    QuiescentState.online(state.base, reader: 1)
    let token = state.start()
    #expect(!state.isComplete(token))
    QuiescentState.quiescent(state.base, reader: 0)
    #expect(!state.isComplete(token))
    QuiescentState.quiescent(state.base, reader: 1)
    #expect(state.isComplete(token))
    let second = state.start()
    QuiescentState.offline(state.base, reader: 0)
    QuiescentState.quiescent(state.base, reader: 1)
    #expect(state.isComplete(second))
    QuiescentState.offline(state.base, reader: 1)
  }

  @Test func reclaimsInOrderAndOnce() {
    let state = QuiescentState(readers: 1)
    let reclaimer: any Reclaimer = state
    QuiescentState.online(state.base, reader: 0)
    var freed: [Int] = []
    reclaimer.retire { freed.append(1) }
    reclaimer.retire { freed.append(2) }
    #expect(state.reclaim() == 0 && freed.isEmpty && state.pending == 2)
    QuiescentState.quiescent(state.base, reader: 0)
    reclaimer.retire { freed.append(3) }
    #expect(state.reclaim() == 2 && freed == [1, 2] && state.pending == 1)
    #expect(state.reclaim() == 0)
    QuiescentState.offline(state.base, reader: 0)
    #expect(state.reclaim() == 1 && freed == [1, 2, 3] && state.pending == 0)
  }

  @Test func retiringWhileFreeing() {
    let state = QuiescentState(readers: 1)
    var freed = 0
    state.retire {
      freed += 1
      state.retire { freed += 1 }
    }
    while state.pending > 0 { state.reclaim() }
    #expect(freed == 2)
  }

  @Test func whatIsLeftIsFreedAtTheEnd() {
    nonisolated(unsafe) var freed = 0
    do {
      let state = QuiescentState(readers: 1)
      QuiescentState.online(state.base, reader: 0)
      for _ in 0..<3000 { state.retire { freed += 1 } }
      state.reclaim()
    }
    #expect(freed == 3000)
  }

  @Test func nodeMemory() {
    for node in [-1, 0, 99] {
      let memory = NodeMemory.allocate(byteCount: 100_000, node: node)
      #expect(memory.loadUnaligned(fromByteOffset: 99_992, as: UInt64.self) == 0)
      memory.storeBytes(of: 7, as: UInt64.self)
      NodeMemory.free(memory, byteCount: 100_000)
    }
    #expect(NodeMemory.nodes >= 1)
  }
}
