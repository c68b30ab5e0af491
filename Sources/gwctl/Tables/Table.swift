/// One column of a table: its title, and a row's text in it.
struct Column<Row> {
  enum Side { case left, right }

  let title: String
  let side: Side
  let text: (Row) -> String

  static func left(_ title: String, _ text: @escaping (Row) -> String) -> Column {
    Column(title: title, side: .left, text: text)
  }

  /// For numbers.
  static func right(_ title: String, _ text: @escaping (Row) -> String) -> Column {
    Column(title: title, side: .right, text: text)
  }
}

/// Columns under their titles, two spaces apart.
enum Table {
  static func text<Row>(_ rows: [Row], _ columns: [Column<Row>]) -> String {
    let lines = [columns.map(\.title)] + rows.map { row in columns.map { $0.text(row) } }
    let widths = columns.indices.map { column in lines.map { $0[column].count }.max() ?? 0 }
    return lines.map { line in
      let cells = columns.indices.map { column in
        let padding = String(repeating: " ", count: widths[column] - line[column].count)
        return columns[column].side == .left ? line[column] + padding : padding + line[column]
      }
      return trimmed(cells.joined(separator: "  ")) + "\n"
    }.joined()
  }

  private static func trimmed(_ line: String) -> Substring {
    line.lastIndex { $0 != " " }.map { line[...$0] } ?? ""
  }
}
