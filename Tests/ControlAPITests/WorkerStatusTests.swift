import Testing

@testable import ControlAPI

@Suite struct WorkerStatusTests {
  @Test func warnsOfAPortOnAFarNode() {
    #expect(
      WorkerStatus.farPort("wan/2", portNode: 1, workerNode: 0) == "wan/2 is on NUMA node 1, the worker on 0")
    #expect(WorkerStatus.farPort("wan/2", portNode: 1, workerNode: 1) == nil)
    // A virtual device has no node.
    #expect(WorkerStatus.farPort("wan/2", portNode: -1, workerNode: 0) == nil)
    #expect(WorkerStatus.farPort("wan/2", portNode: 0, workerNode: -1) == nil)
  }
}
