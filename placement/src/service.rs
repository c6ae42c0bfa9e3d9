//! The wire of `ReportDaprStatus`. The generated service would encode the table for each stream again; this one
//! takes orders as bytes.

use std::convert::Infallible;
use std::task::{Context, Poll};

use bytes::{BufMut as _, Bytes};
use prost::Message as _;
use proto::placement::v1::{Host, PlacementOrder};
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic::codegen::{Body, BoxFuture, Service, StdError, http};
use tonic::server::{Grpc, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::dissemination::Order;
use crate::server::{Orders, Reports};

impl<B> Service<http::Request<B>> for Reports
where
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        if request.uri().path() != REPORT_DAPR_STATUS {
            return Box::pin(async { Ok(Status::unimplemented("").into_http()) });
        }
        let reports = self.clone();
        Box::pin(async move {
            let mut grpc =
                Grpc::new(OrderCodec).apply_max_message_size_config(Some(MAX_REPORT), None);
            Ok(grpc.streaming(Method(reports), request).await)
        })
    }
}

struct Method(Reports);

impl StreamingService<Host> for Method {
    type Response = Bytes;
    type ResponseStream = Orders;
    type Future = BoxFuture<Response<Orders>, Status>;

    fn call(&mut self, request: Request<Streaming<Host>>) -> Self::Future {
        let reports = self.0.clone();
        Box::pin(async move { reports.report_dapr_status(request).await })
    }
}

/// Messages to send for an order.
pub(crate) fn wire(order: Order) -> Vec<Bytes> {
    let message = |operation: &str, version| {
        let order = PlacementOrder {
            tables: None,
            operation: operation.to_owned(),
            version,
        };
        order.encode_to_vec().into()
    };
    match order {
        Order::Lock(version) => vec![message("lock", version)],
        Order::Update(_, table) => vec![table],
        Order::Unlock(version) => vec![message("unlock", version)],
        Order::Table(version, table) => {
            vec![message("lock", version), table, message("unlock", version)]
        }
    }
}

/// Orders leave as the bytes that they are.
struct OrderCodec;

impl Codec for OrderCodec {
    type Encode = Bytes;
    type Decode = Host;
    type Encoder = OrderCodec;
    type Decoder = <ProstCodec<(), Host> as Codec>::Decoder;

    fn encoder(&mut self) -> OrderCodec {
        OrderCodec
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<(), Host>::default().decoder()
    }
}

impl Encoder for OrderCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, order: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(order);
        Ok(())
    }
}

const REPORT_DAPR_STATUS: &str = "/dapr.proto.placement.v1.Placement/ReportDaprStatus";

/// Bytes of a report. As many types as a host may have fit in with long names.
const MAX_REPORT: usize = 256 << 10;
