import CLayout

/// The policies of one direction and family, the writer's side. Control thread only.
final class SPDView {
  private let isV6: Bool
  private let seed: UInt64
  private let reclaimer: any Reclaimer
  private var tuples: [TupleShape: SPDTuple] = [:]
  private let prefixes: SPDPrefixes
  /// What readers see; the memory of everything it points to but the hash tables begins here.
  private(set) var layout: UnsafeMutableRawPointer?

  /// So few tuples are visited each.
  private static let fewTuples = 8

  init(isV6: Bool, seed: UInt64, reclaimer: any Reclaimer) {
    self.isV6 = isV6
    self.seed = seed
    self.reclaimer = reclaimer
    prefixes = SPDPrefixes(isV6: isV6, seed: seed, reclaimer: reclaimer)
  }

  deinit { layout?.deallocate() }

  var footprint: Int {
    tuples.values.reduce(64 + prefixes.footprint) { $0 + $1.index.footprint + MemoryLayout<gw_tuple>.stride }
  }

  /// True if the layout must be made anew for readers to find the policy.
  func insert(_ policy: UnsafeMutablePointer<gw_policy>) -> Bool {
    let shape = TupleShape(policy)
    let tuple = tuples[shape] ?? SPDTuple(shape: shape, index: HashIndex(seed: seed, reclaimer: reclaimer))
    tuples[shape] = tuple
    tuple.index.insert(key: tuple.key(policy), value: UInt64(UInt(bitPattern: policy)))
    prefixes.insert(policy, shape)
    return tuple.count(policy.pointee.rank, 1)
  }

  /// Nil if the policy is not here; else what must be called when no reader can hold it, and whether the layout must be
  /// made anew.
  func remove(_ policy: UnsafeMutablePointer<gw_policy>) -> (release: () -> Void, changed: Bool)? {
    let shape = TupleShape(policy)
    guard let tuple = tuples[shape],
      let release = tuple.index.remove(key: tuple.key(policy), value: UInt64(UInt(bitPattern: policy)))
    else { return nil }
    prefixes.remove(policy, shape)
    let changed = tuple.count(policy.pointee.rank, -1)
    guard tuple.index.count == 0 else { return (release, changed) }
    tuples[shape] = nil
    // Readers may be in its table: it lives as long as the policy.
    return (
      {
        release()
        withExtendedLifetime(tuple) {}
      }, true
    )
  }

  /// Makes the layout anew. Returns the old one, which readers may still hold.
  func layOut() -> UnsafeMutableRawPointer? {
    let sorted = tuples.values.sorted { $0.rank < $1.rank }
    let plan = Plan(sorted, isV6: isV6, prefixes: prefixes)
    let memory = UnsafeMutableRawPointer.allocate(byteCount: plan.byteCount, alignment: 64)
    memory.initializeMemory(as: UInt8.self, repeating: 0, count: plan.byteCount)
    let view = memory.bindMemory(to: gw_spd_view.self, capacity: 1)
    let entries = (memory + 64).bindMemory(to: gw_tuple.self, capacity: sorted.count)
    for (position, tuple) in sorted.enumerated() { (entries + position).initialize(to: tuple.layout) }
    view.pointee.count = UInt64(sorted.count)
    view.pointee.tuples = entries
    if plan.isIndexed {
      view.pointee.sources = UnsafeMutableRawPointer(prefixes.sources.reader.root)
      view.pointee.destinations = UnsafeMutableRawPointer(prefixes.destinations.reader.root)
      plan.fill(view, memory, sorted)
    }
    defer { layout = memory }
    return layout
  }

  /// Where rows, columns and matrix stand.
  private struct Plan {
    /// Source lengths in order of rank.
    var rows: [(length: UInt8, rank: UInt64)] = []
    /// Destination lengths.
    var columns: [(length: UInt8, bit: UInt8)] = []
    var isIndexed = false
    private let rowsOffset: Int
    private let columnsOffset: Int
    private let matrixOffset: Int
    let byteCount: Int

    init(_ sorted: [SPDTuple], isV6: Bool, prefixes: SPDPrefixes) {
      isIndexed = sorted.count > SPDView.fewTuples && prefixes.isComplete
      if isIndexed {
        var seen: (rows: Set<UInt8>, columns: Set<UInt8>) = ([], [])
        for tuple in sorted {
          // The first of its source length has the best rank of it.
          if seen.rows.insert(tuple.shape.sourceLength).inserted { rows.append((tuple.shape.sourceLength, tuple.rank)) }
          if seen.columns.insert(tuple.shape.destinationLength).inserted,
            let bit = prefixes.bit(ofLength: tuple.shape.destinationLength)
          {
            columns.append((tuple.shape.destinationLength, bit))
          }
        }
      }
      rowsOffset = 64 + sorted.count * MemoryLayout<gw_tuple>.stride
      columnsOffset = rowsOffset + rows.count * MemoryLayout<gw_spd_row>.stride
      matrixOffset = columnsOffset + 64 * MemoryLayout<gw_spd_column>.stride
      byteCount = isIndexed ? matrixOffset + rows.count * columns.count * 8 * 8 : rowsOffset
    }

    func fill(_ view: UnsafeMutablePointer<gw_spd_view>, _ memory: UnsafeMutableRawPointer, _ sorted: [SPDTuple]) {
      let rowRecords = (memory + rowsOffset).bindMemory(to: gw_spd_row.self, capacity: rows.count)
      let columnRecords = (memory + columnsOffset).bindMemory(to: gw_spd_column.self, capacity: 64)
      let matrix = (memory + matrixOffset).bindMemory(
        to: UnsafeMutablePointer<gw_tuple>?.self, capacity: rows.count * columns.count * 8)
      var (rowOf, columnOf): ([UInt8: Int], [UInt8: Int]) = ([:], [:])
      for (number, row) in rows.enumerated() {
        rowOf[row.length] = number
        rowRecords[number].rank = row.rank
        rowRecords[number].matrix_row = UInt32(number)
        rowRecords[number].length = row.length
      }
      for (number, column) in columns.enumerated() {
        columnOf[column.length] = number
        columnRecords[number].length = column.length
        columnRecords[number].bit = column.bit
        columnRecords[Int(column.bit)].column_of_bit = UInt8(number)
      }
      for (position, tuple) in sorted.enumerated() {
        guard let row = rowOf[tuple.shape.sourceLength], let column = columnOf[tuple.shape.destinationLength] else {
          continue
        }
        matrix[(row * columns.count + column) * 8 + Int(tuple.shape.flags)] = view.pointee.tuples + position
      }
      view.pointee.rows = rowRecords
      view.pointee.columns = columnRecords
      view.pointee.matrix = matrix
      view.pointee.row_count = UInt32(rows.count)
      view.pointee.column_count = UInt32(columns.count)
    }
  }
}
