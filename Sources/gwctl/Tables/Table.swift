/// Columns under their titles, two spaces apart; numbers to the right.
struct Table {
  enum Side { case left, right }
  private let columns: [(title: String, side: Side)]
  private var rows: [[String]] = []

  init(_ columns: KeyValuePairs<String, Side>) { self.columns = columns.map { (title: $0.key, side: $0.value) } }

  mutating func add(_ row: String...) {
    precondition(row.count == columns.count)
    rows.append(row)
  }

  var isEmpty: Bool { rows.isEmpty }

  var text: String {
    let lines = [columns.map(\.title)] + rows
    let widths = columns.indices.map { column in lines.map { $0[column].count }.max() ?? 0 }
    return lines.map { line in
      let cells = columns.indices.map { column in
        let padding = String(repeating: " ", count: widths[column] - line[column].count)
        return columns[column].side == .left ? line[column] + padding : padding + line[column]
      }
      return Self.trimmed(cells.joined(separator: "  ")) + "\n"
    }.joined()
  }

  private static func trimmed(_ line: String) -> Substring {
    line.lastIndex { $0 != " " }.map { line[...$0] } ?? ""
  }
}
