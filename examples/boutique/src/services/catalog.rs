//! A dozen products.

use tonic::{Request, Response, Status};

use crate::hipstershop::product_catalog_service_server::ProductCatalogService;
use crate::hipstershop::{
    GetProductRequest, ListProductsRequest, ListProductsResponse, Product, SearchProductsRequest,
    SearchProductsResponse,
};
use crate::money::dollars;

/// Id, name, category, dollars and cents.
pub const PRODUCTS: [(&str, &str, &str, i64, i32); 12] = [
    ("SUN", "Sunglasses", "accessories", 19, 99),
    ("TOP", "Tank top", "clothing", 18, 99),
    ("WATCH", "Watch", "accessories", 109, 99),
    ("LOAFERS", "Loafers", "footwear", 89, 99),
    ("DRYER", "Hairdryer", "beauty", 24, 99),
    ("CANDLE", "Candle holder", "decor", 18, 99),
    ("SHAKERS", "Salt and pepper shakers", "kitchen", 18, 49),
    ("JAR", "Bamboo glass jar", "kitchen", 5, 49),
    ("MUG", "Mug", "kitchen", 8, 99),
    ("LAMP", "Desk lamp", "home", 44, 50),
    ("ATLAS", "Atlas", "books", 60, 5),
    ("CHAIR", "Folding chair", "home", 32, 0),
];

/// The service.
#[derive(Debug)]
pub struct Catalog;

fn products() -> impl Iterator<Item = Product> {
    PRODUCTS.into_iter().map(|(id, name, category, units, cents)| Product {
        id: id.into(),
        name: name.into(),
        description: format!("{name}, as good as any"),
        picture: format!("/static/{}.jpg", id.to_lowercase()),
        price_usd: Some(dollars(units, cents)),
        categories: vec![category.into()],
    })
}

#[tonic::async_trait]
impl ProductCatalogService for Catalog {
    async fn list_products(&self, _: Request<ListProductsRequest>) -> Result<Response<ListProductsResponse>, Status> {
        Ok(Response::new(ListProductsResponse { products: products().collect() }))
    }

    async fn get_product(&self, request: Request<GetProductRequest>) -> Result<Response<Product>, Status> {
        let id = request.into_inner().id;
        let found = products().find(|product| product.id == id);
        found.map(Response::new).ok_or_else(|| Status::not_found(format!("there is no product `{id}`")))
    }

    async fn search_products(
        &self,
        request: Request<SearchProductsRequest>,
    ) -> Result<Response<SearchProductsResponse>, Status> {
        let query = request.into_inner().query.to_lowercase();
        let fits = |product: &Product| {
            product.name.to_lowercase().contains(&query) || product.description.to_lowercase().contains(&query)
        };
        Ok(Response::new(SearchProductsResponse { results: products().filter(fits).collect() }))
    }
}
