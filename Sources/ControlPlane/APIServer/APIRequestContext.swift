import ControlAPI
import Hummingbird
import NIOCore

/// One request and the connection that it came by.
struct APIRequestContext: RequestContext {
  var coreContext: CoreRequestContextStorage
  let channel: any Channel

  init(source: ApplicationRequestContextSource) {
    coreContext = CoreRequestContextStorage(source: source)
    channel = source.channel
  }

  /// Key material is for root alone, whatever the socket's mode lets in.
  func requireRoot(to purpose: String) async throws(ControlError) {
    guard try await PeerCredentials.of(channel).isRoot else {
      throw ControlError(.forbidden, "only root may \(purpose)")
    }
  }
}
