import ControlAPI

/// What of the tunnels is to be seen, and what keys make of that.
struct TopView {
  enum Key: Equatable {
    case character(Character)
    case enter, escape, backspace, up, down, pageUp, pageDown, home
  }

  var order: TunnelQuery.Order
  var filter: String?
  var states: Set<TunnelStatus.State>?
  var offset = 0
  /// What is typed behind a slash; nil: no filter is being typed.
  var typed: String?

  init(order: TunnelQuery.Order = .rate, filter: String? = nil, states: Set<TunnelStatus.State>? = nil) {
    self.order = order
    self.filter = filter
    self.states = states
  }

  func query(rows: Int) -> TunnelQuery {
    var query = TunnelQuery()
    query.order = order
    query.filter = typed ?? filter
    query.states = states
    query.offset = offset
    query.limit = max(1, rows)
    query.withAssociations = false
    query.withHistory = true
    return query
  }

  /// False: it is the end.
  mutating func take(_ key: Key, page: Int, of count: Int) -> Bool {
    if typed != nil {
      type(key)
      return true
    }
    switch key {
    case .character("q"), .character("Q"), .character("\u{3}"): return false
    case .character("r"): sort(.rate)
    case .character("d"): sort(.drops)
    case .character("a"): sort(.age)
    case .character("n"): sort(.name)
    case .character("s"): sort(.state)
    case .character("/"): typed = ""
    case .escape:
      filter = nil
      offset = 0
    case .up, .character("k"): scroll(-1, page: page, of: count)
    case .down, .character("j"): scroll(1, page: page, of: count)
    case .pageUp: scroll(-page, page: page, of: count)
    case .pageDown, .character(" "): scroll(page, page: page, of: count)
    case .home: offset = 0
    default: break
    }
    return true
  }

  private mutating func sort(_ order: TunnelQuery.Order) {
    self.order = order
    offset = 0
  }

  mutating func scroll(_ step: Int, page: Int, of count: Int) {
    offset = max(0, min(offset + step, count - page))
  }

  private mutating func type(_ key: Key) {
    switch key {
    case .character(let character) where character >= " ": typed?.append(character)
    case .backspace: _ = typed?.popLast()
    case .enter:
      filter = typed?.isEmpty == false ? typed : nil
      typed = nil
    case .escape, .character("\u{3}"): typed = nil
    default: break
    }
    offset = 0
  }
}
